//! What is written comes back.

use heaptape_format::*;

#[test]
fn a_small_tape_comes_back() {
    let mut out = Vec::new();
    let header = Header {
        writer: "test".into(),
        ..Header::default()
    };
    let options = WriterOptions {
        block_events: 4,
        ..WriterOptions::default()
    };
    let mut writer = Writer::new(&header, options, &mut out);
    let mut events = Vec::new();
    for number in 0..10u64 {
        let frame = writer.frame(Frame::Raw {
            process: ProcessIx(0),
            address: Address(number),
        });
        let stack = writer.stack(StackId::ROOT, frame);
        let op = match number % 3 {
            0 => Op::Alloc {
                api: AllocApi::Malloc,
                address: Address(16 * number),
                size: Bytes(number),
                stack,
            },
            1 => Op::Free {
                address: Address(16 * (number - 1)),
            },
            _ => Op::Brk {
                old_end: Address(1),
                new_end: Address(2),
                stack,
            },
        };
        let event = Event {
            time: Micros(number),
            thread: ThreadIx(0),
            op,
        };
        writer.event(&event, &mut out);
        events.push(event);
    }
    writer.finish(
        &End {
            events: 10,
            ..End::default()
        },
        &mut out,
    );

    let scan = scan(&out).expect("it is a tape");
    assert_eq!(scan.header, header);
    assert_eq!(scan.damage, []);
    assert!(matches!(scan.ending, Ending::Clean(End { events: 10, .. })));
    let mut read = Vec::new();
    let mut columns = EventColumns::default();
    for block in &scan.blocks {
        if block.kind == BlockKind::Events {
            read_events(&out, block, &mut columns).expect("it is whole");
            assert_eq!(columns.birth[1], if block.sequence == 3 { 0 } else { columns.birth[1] });
            read.extend(columns.iter());
        }
    }
    assert_eq!(read, events);
}
