//! The tape's header: where and how it was recorded.

use crate::cli::{RecordArgs, Stacks};
use heaptape_format::record::{Header, Options, StackMode};
use heaptape_format::Bytes;
use std::os::unix::ffi::OsStrExt;

/// The header of a recording that begins now.
pub fn header(args: &RecordArgs) -> Header {
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Header {
        writer: concat!("heaptape ", env!("CARGO_PKG_VERSION")).into(),
        start_unix_nanos: now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64,
        utc_offset_seconds: crate::sys::stamp::utc_offset(now.tv_sec),
        machine: text(system.machine()),
        host: text(system.nodename()),
        kernel: format!("{} {}", text(system.sysname()), text(system.release())),
        pointer_bytes: std::mem::size_of::<usize>() as u8,
        page_bytes: rustix::param::page_size() as u32,
        command: args
            .command
            .iter()
            .map(|argument| argument.as_bytes().to_vec())
            .collect(),
        options: Options {
            stacks: match args.stacks {
                Stacks::Dwarf => StackMode::Dwarf,
                Stacks::Fp => StackMode::FramePointers,
                Stacks::None => StackMode::None,
            },
            depth: args.depth.filter(|depth| *depth > 0),
            sample_bytes: args.sample.filter(|bytes| *bytes > 0),
            min_size: Bytes(args.min_size),
        },
    }
}
