//! Tapes for tests, written through the format's own writer.

use heaptape::replay::replay;
use heaptape::table::Heap;
use heaptape::tape::Tape;
use heaptape_format::record::{
    Code, End, Frame, Header, Marker, MemorySample, Module, Process, ProcessEnd, ProcessOrigin, Record, Runtime, Thread,
};
use heaptape_format::{
    Address, AllocApi, Bytes, CodeIx, Event, FrameId, MapApi, Micros, ModuleIx, Op, ProcessIx, StackId, ThreadIx,
    TypeIx, Writer, WriterOptions,
};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// 2026-11-22 10:00:00 UTC.
pub const START: u64 = 1_795_341_600_000_000_000;

/// A tape in the making.
pub struct Recording {
    writer: Writer,
    bytes: Vec<u8>,
    now: u64,
}

#[allow(dead_code)]
impl Recording {
    /// An empty tape with blocks of `block_events` events.
    pub fn new(block_events: u32) -> Recording {
        Recording::begun(START, block_events)
    }

    /// The same, begun at this instant.
    pub fn begun(start_unix_nanos: u64, block_events: u32) -> Recording {
        let header = Header {
            writer: "heaptape test".into(),
            start_unix_nanos,
            utc_offset_seconds: 3600,
            machine: "x86_64".into(),
            host: "device".into(),
            kernel: "Linux 6.1".into(),
            pointer_bytes: 8,
            page_bytes: 4096,
            command: vec![b"/app/service".to_vec(), b"--port".to_vec()],
            ..Header::default()
        };
        let mut bytes = Vec::new();
        let options = WriterOptions {
            block_events,
            ..WriterOptions::default()
        };
        Recording {
            writer: Writer::new(&header, options, &mut bytes),
            bytes,
            now: 0,
        }
    }

    /// Lets time pass.
    pub fn wait(&mut self, micros: u64) -> &mut Self {
        self.now += micros;
        self
    }

    pub fn record(&mut self, record: Record) -> &mut Self {
        self.writer.record(Micros(self.now), record);
        self
    }

    pub fn process(&mut self, pid: u32, origin: ProcessOrigin, exe: &[u8]) -> &mut Self {
        self.record(Record::Process(Process {
            pid,
            parent_pid: 1,
            origin,
            exe: exe.to_vec(),
            command: vec![exe.to_vec()],
        }))
    }

    pub fn thread(&mut self, process: u32, tid: u32, name: &[u8]) -> &mut Self {
        self.record(Record::Thread(Thread {
            process: ProcessIx(process),
            tid,
            name: name.to_vec(),
        }))
    }

    pub fn module(&mut self, path: &[u8], build_id: &[u8]) -> &mut Self {
        self.record(Record::Module(Module {
            path: path.to_vec(),
            build_id: build_id.to_vec(),
            ..Module::default()
        }))
    }

    pub fn marker(&mut self, name: &[u8]) -> &mut Self {
        self.record(Record::Marker(Marker {
            process: ProcessIx(0),
            thread: None,
            name: name.to_vec(),
        }))
    }

    pub fn sample(&mut self, process: u32, rss: u64) -> &mut Self {
        self.record(Record::Sample(MemorySample {
            process: ProcessIx(process),
            rss: Bytes(rss),
            ..MemorySample::default()
        }))
    }

    pub fn end_process(&mut self, process: u32, status: i32) -> &mut Self {
        self.record(Record::ProcessEnd {
            process: ProcessIx(process),
            end: ProcessEnd::Exit(status),
        })
    }

    pub fn code(&mut self, name: &[u8], file: &[u8]) -> &mut Self {
        self.record(Record::Code(Code {
            process: ProcessIx(0),
            name: name.to_vec(),
            file: file.to_vec(),
            first_line: 1,
        }))
    }

    pub fn object_type(&mut self, name: &[u8]) -> &mut Self {
        self.record(Record::Type { name: name.to_vec() })
    }

    pub fn runtime(&mut self, name: &[u8], types: bool, note: &[u8]) -> &mut Self {
        self.record(Record::Runtime(Runtime {
            process: ProcessIx(0),
            name: name.to_vec(),
            frames: types,
            types,
            note: note.to_vec(),
        }))
    }

    /// A name that the tape holds.
    pub fn name(&mut self, naming: &heaptape_format::Naming) {
        self.writer.name(naming, &mut self.bytes);
    }

    /// A stack of any frames, outermost first.
    pub fn frames(&mut self, frames: &[Frame]) -> StackId {
        frames.iter().fold(StackId::ROOT, |parent, &frame| {
            let frame = self.writer.frame(frame);
            self.writer.stack(parent, frame)
        })
    }

    /// A block of one of Python's allocators.
    pub fn python(&mut self, thread: u32, api: AllocApi, address: u64, size: u64, stack: StackId) -> &mut Self {
        self.op(
            thread,
            Op::Alloc {
                api,
                address: Address(address),
                size: Bytes(size),
                stack,
            },
        );
        self
    }

    /// An object, and its type.
    pub fn object(&mut self, thread: u32, address: u64, size: u64, stack: StackId, kind: u32) -> &mut Self {
        self.python(thread, AllocApi::PyObj, address, size, stack)
            .typed(thread, address, kind)
    }

    pub fn typed(&mut self, thread: u32, address: u64, kind: u32) -> &mut Self {
        self.op(
            thread,
            Op::Typed {
                address: Address(address),
                kind: TypeIx(kind),
            },
        );
        self
    }

    pub fn arena(&mut self, thread: u32, address: u64, length: u64, stack: StackId) -> &mut Self {
        self.op(
            thread,
            Op::Map {
                api: MapApi::PyArena,
                address: Address(address),
                length: Bytes(length),
                stack,
            },
        );
        self
    }

    pub fn unmap(&mut self, thread: u32, address: u64, length: u64) -> &mut Self {
        self.op(
            thread,
            Op::Unmap {
                address: Address(address),
                length: Bytes(length),
            },
        );
        self
    }

    /// A stack of return addresses in a module, outermost first.
    pub fn stack(&mut self, module: u32, offsets: &[u64]) -> StackId {
        offsets.iter().fold(StackId::ROOT, |parent, &offset| {
            let frame: FrameId = self.writer.frame(Frame::Native {
                module: ModuleIx(module),
                offset,
            });
            self.writer.stack(parent, frame)
        })
    }

    /// Adds an event; whether it was written.
    pub fn op(&mut self, thread: u32, op: Op) -> bool {
        let before = self.writer.next_event();
        let event = Event {
            time: Micros(self.now),
            thread: ThreadIx(thread),
            op,
        };
        self.writer.event(&event, &mut self.bytes);
        self.writer.next_event() > before
    }

    pub fn alloc(&mut self, thread: u32, address: u64, size: u64, stack: StackId) -> &mut Self {
        self.op(
            thread,
            Op::Alloc {
                api: AllocApi::Malloc,
                address: Address(address),
                size: Bytes(size),
                stack,
            },
        );
        self
    }

    pub fn free(&mut self, thread: u32, address: u64) -> &mut Self {
        self.op(
            thread,
            Op::Free {
                address: Address(address),
            },
        );
        self
    }

    pub fn resize(&mut self, thread: u32, address: u64, size: u64, stack: StackId) -> &mut Self {
        self.op(
            thread,
            Op::Resize {
                api: AllocApi::Realloc,
                address: Address(address),
                size: Bytes(size),
                stack,
            },
        );
        self
    }

    pub fn relocate(&mut self, thread: u32, from: u64, to: u64, size: u64, stack: StackId) -> &mut Self {
        self.op(thread, Op::MoveOut { address: Address(from) });
        self.op(
            thread,
            Op::MoveIn {
                api: AllocApi::Realloc,
                address: Address(to),
                size: Bytes(size),
                stack,
            },
        );
        self
    }

    pub fn map(&mut self, thread: u32, address: u64, length: u64, stack: StackId) -> &mut Self {
        let api = MapApi::Anonymous;
        self.op(
            thread,
            Op::Map {
                api,
                address: Address(address),
                length: Bytes(length),
                stack,
            },
        );
        self
    }

    /// Makes what was written so far readable.
    pub fn flush(&mut self) -> &mut Self {
        self.writer.flush(&mut self.bytes);
        self
    }

    /// Seals what is pending and begins a new generation of stacks.
    pub fn new_generation(&mut self) -> &mut Self {
        self.writer.new_generation(&mut self.bytes);
        self
    }

    /// Ends the tape; its bytes.
    pub fn finish(mut self) -> Vec<u8> {
        let end = End {
            events: self.writer.weight(),
            status: Some(ProcessEnd::Exit(0)),
            ..End::default()
        };
        self.writer.finish(&end, &mut self.bytes);
        self.bytes
    }

    /// Leaves the tape as a killed writer does; its bytes.
    pub fn abandon(mut self) -> Vec<u8> {
        self.writer.flush(&mut self.bytes);
        self.bytes
    }
}

/// The heap of a tape's bytes.
#[allow(dead_code)]
pub fn heap_of(bytes: Vec<u8>) -> Heap {
    let tape = Tape::from_source(Box::new(bytes), Path::new("test.tape")).expect("the bytes are a tape");
    replay(&tape, "test.tape", &|_, _| ())
}

/// A small service: two processes, three threads, a temporary and a long-lived part, a leak, markers, samples, mappings.
#[allow(dead_code)]
pub fn service() -> Vec<u8> {
    let mut tape = Recording::new(64);
    tape.process(100, ProcessOrigin::Exec, b"/app/service")
        .thread(0, 100, b"main")
        .thread(0, 101, b"worker");
    tape.module(b"/app/service", b"").module(b"/lib/libc.so.6", b"");
    let main = tape.stack(0, &[0x1000, 0x1100]);
    let request = tape.stack(0, &[0x1000, 0x2000, 0x2200]);
    let leak = tape.stack(0, &[0x1000, 0x2000, 0x2300, 0x2310]);
    tape.map(0, 0x7000_0000, 1 << 20, main);
    tape.wait(1_000_000)
        .alloc(0, 0x10_0000, 64 << 10, main)
        .sample(0, 2 << 20);
    tape.wait(500_000).marker(b"ready");
    for request_no in 0..100u64 {
        tape.wait(90_000);
        let at = 0x20_0000 + request_no * 0x100;
        for block in 0..3 {
            tape.alloc(1, at + block * 0x40, 100 + block, request);
        }
        if request_no == 50 {
            tape.marker(b"busy")
                .alloc(0, 0x90_0000, 300_000, main)
                .wait(1000)
                .free(0, 0x90_0000);
            tape.process(200, ProcessOrigin::Fork(ProcessIx(0)), b"/app/service")
                .thread(1, 200, b"child");
            tape.alloc(2, 0x50_0000, 5000, request)
                .free(2, 0x10_0000)
                .end_process(1, 0);
        }
        tape.alloc(1, 0x80_0000 + request_no * 0x100, 200, leak);
        for block in 0..3 {
            tape.free(1, at + block * 0x40);
        }
        if request_no % 10 == 0 {
            tape.sample(0, (2 << 20) + request_no * 300);
        }
    }
    tape.resize(0, 0x10_0000, 80 << 10, main)
        .relocate(0, 0x10_0000, 0xa0_0000, 100 << 10, main);
    tape.wait(500_000).marker(b"busy").end_process(0, 0);
    tape.finish()
}

/// Many blocks in several spans of the table: temporary ones, ones that stay for a while, leaks, growing buffers, two children. About `events` events.
#[allow(dead_code)]
pub fn busy(events: u64) -> Vec<u8> {
    let mut tape = Recording::new(5000);
    tape.process(100, ProcessOrigin::Exec, b"/app/busy");
    for thread in 0..3 {
        tape.thread(0, 100 + thread, b"worker");
    }
    tape.module(b"/app/busy", b"");
    let stacks: Vec<StackId> = (0..50)
        .map(|site| tape.stack(0, &[0x100, 0x200 + site % 7, 0x1000 + site * 16]))
        .collect();
    let mut dice = 1u64;
    let mut live: Vec<u64> = Vec::new();
    let mut next = 0x10_0000u64;
    for step in 0..events {
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let roll = dice >> 33;
        let (thread, stack) = ((roll % 3) as u32, stacks[(roll % 50) as usize]);
        if step % 10 == 0 {
            tape.wait(1 + roll % 40);
        }
        match roll % 16 {
            0 if live.len() > 2000 => {
                let old = live.swap_remove(roll as usize % live.len());
                tape.free(thread, old);
            }
            1 => {
                next += 4096;
                live.push(next);
                tape.alloc(thread, next, 100 + roll % 4000, stack);
            }
            2 if !live.is_empty() => {
                let at = roll as usize % live.len();
                tape.resize(thread, live[at], roll % 9000, stack);
            }
            3 if !live.is_empty() => {
                next += 16384;
                let at = roll as usize % live.len();
                tape.relocate(thread, live[at], next, roll % 9000, stack);
                live[at] = next;
            }
            roll => {
                tape.alloc(thread, 0x1000 + roll * 64, 8 + roll, stack);
                tape.free(thread, 0x1000 + roll * 64);
            }
        }
        if step % (events / 700 + 1) == 0 {
            tape.marker(b"step");
        }
        if step > 0 && step % (events / 3 + 1) == 0 {
            let child = (step / (events / 3 + 1)) as u32;
            tape.process(200 + child, ProcessOrigin::Fork(ProcessIx(0)), b"/app/busy")
                .thread(child, 200 + child, b"child")
                .free(2 + child, live[0])
                .alloc(2 + child, live[1], 50, stack)
                .alloc(2 + child, 0x77_0000, 5000, stack)
                .end_process(child, 0);
        }
    }
    tape.end_process(0, 0);
    tape.finish()
}

/// Native code of a module.
#[allow(dead_code)]
pub fn native(module: u32, offset: u64) -> Frame {
    Frame::Native {
        module: ModuleIx(module),
        offset,
    }
}

/// A line of Python.
#[allow(dead_code)]
pub fn line(code: u32, line: u32) -> Frame {
    Frame::Python {
        code: CodeIx(code),
        line,
    }
}

/// A Python service: sessions that are never closed, with a buffer each from a C library; requests that come and go; three arenas of which
/// one is nearly empty; a forked worker.
#[allow(dead_code)]
pub fn python_service() -> Vec<u8> {
    const OBJECTS: u64 = 0x7000_0000;
    let mut tape = Recording::new(64);
    tape.process(100, ProcessOrigin::Exec, b"/opt/device/python3")
        .thread(0, 100, b"python3")
        .module(b"/opt/device/python3", b"")
        .module(b"/opt/device/libsqlite3.so.0", b"")
        .runtime(b"CPython 3.11.2", true, b"")
        .code(b"<module>", b"/srv/app/service.py")
        .code(b"handle", b"/srv/app/handlers.py")
        .code(b"Session.open", b"/srv/app/session.py")
        .object_type(b"dict")
        .object_type(b"str")
        .object_type(b"session.Session");
    let (main, eval, alloc) = (native(0, 0x100), native(0, 0x200), native(0, 0x300));
    let startup = tape.frames(&[main, native(0, 0x150)]);
    let request = [main, eval, line(0, 120), eval, line(1, 17)];
    let open = [&request[..], &[eval, line(2, 44)]].concat();
    let text = tape.frames(&[&request[..], &[alloc]].concat());
    let session = tape.frames(&[&open[..], &[alloc]].concat());
    let keys = tape.frames(&[&open[..], &[native(0, 0x340)]].concat());
    let buffer = tape.frames(&[&open[..], &[native(1, 0x500), native(1, 0x700)]].concat());
    tape.arena(0, OBJECTS, 256 << 10, startup)
        .arena(0, OBJECTS + (256 << 10), 256 << 10, startup)
        .arena(0, OBJECTS + (1 << 20), 256 << 10, startup);
    tape.python(0, AllocApi::PyRaw, 0x1000, 5000, startup)
        .python(0, AllocApi::PyMem, 0x4000, 70_000, startup)
        .wait(500_000)
        .marker(b"ready");
    // The first arena fills up.
    for block in 0..400 {
        tape.object(0, OBJECTS + block * 512, 500, text, 2);
    }
    for request in 0..100u64 {
        tape.wait(100_000);
        let at = OBJECTS + (256 << 10) + request * 512;
        tape.object(0, at, 200, text, 2);
        tape.object(0, at + 0x100, 64, session, 3)
            .python(0, AllocApi::PyMem, 0x20_0000 + request * 1024, 600, keys)
            .object(0, at + 0x180, 60, session, if request % 10 == 0 { 1 } else { 3 })
            .alloc(0, 0x40_0000 + request * 1024, 300, buffer);
        tape.free(0, at);
        if request % 2 == 0 {
            tape.free(0, at + 0x100).free(0, at + 0x180);
        }
        if request == 50 {
            tape.marker(b"busy");
        }
    }
    // Somebody's one object in the last arena, whose type is said much later; one that holds none.
    tape.python(0, AllocApi::PyObj, OBJECTS + (1 << 20), 48, session)
        .typed(0, OBJECTS + (1 << 20), 0);
    tape.python(0, AllocApi::PyObj, OBJECTS + (1 << 20) + 64, 56, text)
        .flush()
        .typed(0, OBJECTS + (1 << 20) + 64, 1);
    tape.process(200, ProcessOrigin::Fork(ProcessIx(0)), b"/opt/device/python3")
        .thread(1, 200, b"worker");
    tape.object(1, OBJECTS + (1 << 20) + 128, 64, session, 3)
        .free(1, OBJECTS + (1 << 20));
    tape.wait(500_000).end_process(1, 0).end_process(0, 0);
    tape.finish()
}

/// The case that heaptape was made for: a Python service with a C library, recorded from 09:50 to 11:10, that loses memory between 10:00 and 11:00. Beside that
/// it warms up, fills a cache that it then keeps full, and answers requests.
#[allow(dead_code)]
pub fn founding_case() -> Vec<u8> {
    const SECOND: u64 = 1_000_000;
    const OBJECTS: u64 = 0x7000_0000;
    let mut tape = Recording::begun(START - 70 * 60 * 1_000_000_000, 4096);
    tape.process(812, ProcessOrigin::Exec, b"/usr/bin/python3.11")
        .thread(0, 812, b"service")
        .thread(0, 815, b"sync")
        .module(b"/usr/bin/python3.11", b"")
        .module(b"/srv/app/libdevice.so", b"")
        .runtime(b"CPython 3.11.2", true, b"")
        .code(b"<module>", b"/srv/app/service.py")
        .code(b"handle", b"/srv/app/handlers.py")
        .code(b"Templates.load", b"/srv/app/templates.py")
        .code(b"Cache.put", b"/srv/app/cache.py")
        .code(b"sync", b"/srv/app/sync.py")
        .code(b"Device.poll", b"/srv/app/device.py")
        .object_type(b"dict")
        .object_type(b"bytes")
        .object_type(b"str")
        .object_type(b"device.Reading");
    let (main, eval, alloc) = (native(0, 0x100), native(0, 0x200), native(0, 0x300));
    let request = [main, eval, line(0, 88), eval, line(1, 17)];
    let poll = [main, eval, line(0, 52), eval, line(4, 31), eval, line(5, 44)];
    let of = |frames: &[Frame], more: &[Frame]| [frames, more].concat();
    let template = tape.frames(&of(&request, &[eval, line(2, 12), alloc]));
    let answer = tape.frames(&of(&request, &[alloc]));
    let cached = tape.frames(&of(&request, &[eval, line(3, 29), alloc]));
    let reading = tape.frames(&of(&poll, &[alloc]));
    let frame = tape.frames(&of(&poll, &[native(1, 0x500), native(1, 0x720)]));
    tape.arena(0, OBJECTS, 16 << 20, template);
    for second in 0..80 * 60u64 {
        tape.wait(SECOND - 2000);
        if second % 60 == 0 {
            tape.marker(b"cycle");
            tape.sample(0, (24 << 20) + second * 300);
        }
        // The first five minutes: templates, for good.
        if second < 300 {
            tape.object(0, OBJECTS + second * 8192, 6000, template, 3);
        }
        let at = OBJECTS + (8 << 20) + second % 8 * 512;
        tape.object(0, at, 480, answer, 2).wait(1000).free(0, at).wait(1000);
        // A cache of 600 entries, the oldest of which gives way.
        let entry = OBJECTS + (10 << 20) + second % 600 * 2048;
        if second >= 600 {
            tape.free(0, entry);
        }
        tape.object(0, entry, 1800, cached, 2);
        // The device is polled every other second. From 10:00 to 11:00 the frame that it sends is kept.
        if second % 2 == 0 {
            let (object, buffer) = (OBJECTS + (14 << 20) + second * 64, 0x10_0000 + second * 1024);
            tape.object(1, object, 56, reading, 4).alloc(1, buffer, 700, frame);
            if !(600..4200).contains(&second) {
                tape.free(1, buffer).free(1, object);
            }
        }
    }
    tape.end_process(0, 0);
    tape.finish()
}

/// A folder of one test, gone when the test is over.
#[allow(dead_code)]
pub struct TempDir(std::path::PathBuf);

#[allow(dead_code)]
impl TempDir {
    pub fn new(name: &str) -> TempDir {
        // Tests of one process run at the same time, and some make several folders.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("heaptape-test-{name}-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder can be made");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
