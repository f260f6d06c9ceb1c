//! The real system: `/proc` and a few system calls.

use super::{elf, maps, FoundModule, Host, Identity, Memory, ProcessFacts, Shares};
use crate::clock::Anchor;
use crate::sys::{signal, stamp};
use heaptape_format::Bytes;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Groups are looked up once per process; this many are remembered at most.
const GROUPS_LIMIT: usize = 4096;

/// The real system.
#[derive(Default)]
pub struct Linux {
    /// The file that tells the charge of a process's memory control group.
    groups: RefCell<HashMap<u32, Option<PathBuf>>>,
    /// Number of the segment's file.
    segment: u64,
    /// The process that has launched the recording, which has the segment mapped too.
    launcher: u32,
    /// When the launched process was started, ticks: nobody older is recorded.
    since: u64,
}

impl Linux {
    /// The system for a recording: of the program that is process `launched`, into the segment in this file, started by the process `launcher`.
    pub fn new(segment: &impl std::os::fd::AsFd, launcher: u32, launched: u32) -> Linux {
        Linux {
            segment: rustix::fs::fstat(segment).map_or(0, |facts| facts.st_ino),
            launcher,
            since: Stat::read(launched).map_or(0, |stat| stat.started),
            ..Linux::default()
        }
    }
}

impl Host for Linux {
    fn now(&self) -> Anchor {
        // The nearest of three: a pair that was torn apart by the scheduler would bend the clock.
        (0..3)
            .map(|_| {
                let before = stamp::now();
                let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
                let after = stamp::now();
                let nanos = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
                let stamp = before + after.wrapping_sub(before) / 2;
                (after.wrapping_sub(before), Anchor { stamp, nanos })
            })
            .min_by_key(|(width, _)| *width)
            .map_or(Anchor { stamp: 0, nanos: 0 }, |(_, anchor)| anchor)
    }

    fn identify(&self, pid: u32) -> Option<Identity> {
        let stat = Stat::read(pid)?;
        Some(Identity {
            pid,
            started: stat.started,
        })
    }

    fn alive(&self, process: Identity) -> bool {
        // The first thread of a process may have ended before the others: a zombie with company is alive.
        Stat::read(process.pid).is_some_and(|stat| {
            stat.started == process.started && (!matches!(stat.state, b'Z' | b'X' | b'x') || stat.threads > 1)
        })
    }

    fn thread_alive(&self, pid: u32, tid: u32) -> bool {
        signal::thread_exists(pid, tid)
    }

    fn facts(&self, pid: u32) -> Option<ProcessFacts> {
        use std::os::unix::ffi::OsStringExt;
        let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        Some(ProcessFacts {
            exe: exe.into_os_string().into_vec(),
            command: arguments(&line),
        })
    }

    fn has_left(&self, process: Identity, exe: &[u8]) -> bool {
        let runs_another = || {
            let now = self.facts(process.pid)?.exe;
            Some(now != exe && !now.ends_with(b" (deleted)"))
        };
        // That it is this very process is looked at last: its id might have been given to another meanwhile.
        runs_another() == Some(true) && self.holds(process.pid) == Some(false) && self.alive(process)
    }

    fn thread_name(&self, pid: u32, tid: u32) -> Option<Vec<u8>> {
        let mut name = fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
        if name.last() == Some(&b'\n') {
            name.pop();
        }
        Some(name)
    }

    fn modules(&self, pid: u32) -> Vec<FoundModule> {
        let Ok(text) = fs::read(format!("/proc/{pid}/maps")) else {
            return Vec::new();
        };
        modules_of(&text, |line| file_of(pid, line))
    }

    fn made_code(&self, process: Identity) -> Option<(Box<dyn std::io::Read>, u64)> {
        use rustix::fs::{Mode, OFlags};
        let path = format!("/tmp/perf-{}.map", process.pid);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
        let facts = file.metadata().ok()?;
        let own = rustix::process::geteuid();
        let is_ours = facts.uid() == own.as_raw() || own.is_root();
        // One that was last written to before the program began is an earlier program's of the same id.
        let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec as u64;
        let started = process.started.max(self.since);
        let age = uptime.saturating_sub(started / rustix::param::clock_ticks_per_second());
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
        let is_fresh = facts.mtime() >= now.saturating_sub(age as i64 + 1);
        let is_list = facts.is_file() && is_ours && is_fresh;
        is_list.then(|| (Box::new(file) as Box<dyn std::io::Read>, facts.len()))
    }

    fn memory(&self, pid: u32) -> Option<Memory> {
        let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(Memory {
            rss: Bytes(pages.saturating_mul(rustix::param::page_size() as u64)),
            cgroup: Bytes(self.group_charge(pid).unwrap_or(0)),
        })
    }

    fn shares(&self, pid: u32) -> Option<Shares> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let value = |name: &str| -> Option<Bytes> {
            let line = text.lines().find(|line| line.starts_with(name))?;
            let kilobytes: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
            Some(Bytes(kilobytes.saturating_mul(1024)))
        };
        Some(Shares {
            pss: value("Pss:")?,
            swap: value("Swap:").unwrap_or_default(),
        })
    }

    fn starting(&self, collector: u32) -> Vec<u32> {
        let marker = format!("HEAPTAPE_SEGMENT=/proc/{collector}/");
        let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec as u64;
        let ticks = rustix::param::clock_ticks_per_second();
        // A forked child counts from its fork, a loaded program from its process's.
        let young = |stat: &Stat| stat.started / ticks + 2 >= uptime;
        let marked = |pid: &u32| {
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|text| {
                text.split(|byte| *byte == 0)
                    .any(|entry| entry.starts_with(marker.as_bytes()))
            })
        };
        processes(young).filter(marked).collect()
    }

    fn holders(&self) -> Vec<u32> {
        let others = [self.launcher, std::process::id()];
        processes(|stat| stat.started >= self.since)
            .filter(|pid| !others.contains(pid))
            .filter(|pid| self.holds(*pid) == Some(true))
            .collect()
    }

    fn barrier(&self) {
        use rustix::thread::{membarrier, MembarrierCommand};
        if membarrier(MembarrierCommand::Global).is_err() {
            // Not offered (old kernel, forbidden by a filter, full dynticks): no processor keeps a store to itself for as long as this.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn wake(&self, word: &AtomicU32, most: u32) {
        // Fails only for words that are not mapped.
        let _ = rustix::thread::futex::wake(word, rustix::thread::futex::Flags::empty(), most);
    }
}

impl Linux {
    /// Whether the process has the segment mapped; `None` when it cannot be seen, or has no memory.
    fn holds(&self, pid: u32) -> Option<bool> {
        let text = fs::read(format!("/proc/{pid}/maps"))
            .ok()
            .filter(|text| !text.is_empty())?;
        let is_ours = |line: maps::Line| line.inode == self.segment && contains(line.path, b"heaptape");
        let holds = maps::lines(&text).any(is_ours);
        Some(holds)
    }

    fn group_charge(&self, pid: u32) -> Option<u64> {
        let mut groups = self.groups.borrow_mut();
        if groups.len() > GROUPS_LIMIT {
            groups.clear();
        }
        let file = groups.entry(pid).or_insert_with(|| group_file(pid));
        fs::read_to_string(file.as_ref()?).ok()?.trim().parse().ok()
    }
}

/// The running processes that `wanted` takes.
fn processes(wanted: impl Fn(&Stat) -> bool) -> impl Iterator<Item = u32> {
    let pids = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(move |pid| Stat::read(*pid).is_some_and(|stat| !matches!(stat.state, b'Z' | b'X') && wanted(&stat)))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The file with the charge of a process's memory group: the unified hierarchy if it manages memory, else the old memory hierarchy.
fn group_file(pid: u32) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // Of a line of mountinfo: the mount point, the kind of file system, and its options.
    let mounts: Vec<(&str, &str, &str)> = mounts
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            Some((left.split(' ').nth(4)?, right.next()?, right.nth(1)?))
        })
        .collect();
    let mut found = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (mount, name) = if controllers.is_empty() {
            (mounts.iter().find(|mount| mount.1 == "cgroup2"), "memory.current")
        } else if controllers.split(',').any(|name| name == "memory") {
            let old =
                |mount: &&(&str, &str, &str)| mount.1 == "cgroup" && mount.2.split(',').any(|name| name == "memory");
            (mounts.iter().find(old), "memory.usage_in_bytes")
        } else {
            continue;
        };
        let Some(mount) = mount else { continue };
        // Within a container the path in the group file may be the host's, while the mount shows only our part.
        for folder in [
            Path::new(mount.0).join(path.trim_start_matches('/')),
            PathBuf::from(mount.0),
        ] {
            let file = folder.join(name);
            if file.exists() {
                found = found.or(Some(file));
            }
        }
    }
    found
}

/// The state of a process, as the letter in `/proc/PID/stat`.
pub fn state_of(pid: u32) -> Option<u8> {
    Stat::read(pid).map(|stat| stat.state)
}

/// What `/proc/PID/stat` tells.
struct Stat {
    state: u8,
    threads: u64,
    started: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Stat> {
        Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &[u8]) -> Option<Stat> {
        // The name of the program stands in parentheses and may hold anything, blanks and parentheses too.
        let end = text.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        Some(Stat {
            state: *fields.next()?.as_bytes().first()?,
            threads: fields.nth(16)?.parse().ok()?,
            started: fields.nth(1)?.parse().ok()?,
        })
    }
}

/// Arguments as `/proc/PID/cmdline` gives them, each ended by a NUL.
pub fn arguments(line: &[u8]) -> Vec<Vec<u8>> {
    let line = line.strip_suffix(&[0]).unwrap_or(line);
    if line.is_empty() {
        return Vec::new();
    }
    line.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}

/// The file behind a mapping: by its address, which needs a privilege, or by its name as the process sees it.
fn file_of(pid: u32, line: &maps::Line) -> Option<elf::Elf> {
    use std::os::unix::ffi::OsStrExt;
    let by_address = PathBuf::from(format!("/proc/{pid}/map_files/{:x}-{:x}", line.start, line.end));
    elf::read(&by_address).or_else(|| {
        let mut path = PathBuf::from(format!("/proc/{pid}/root"));
        path.push(
            Path::new(std::ffi::OsStr::from_bytes(line.path))
                .strip_prefix("/")
                .ok()?,
        );
        elf::read(&path)
    })
}

/// Puts the mappings of each file together. A file counts when some of it is executable.
///
/// A program may map a part of its own file a second time, as V8 does with the functions built into it, to have them near the code that it makes: that is a module of its own with the
/// same name, and what lies between the two belongs to neither.
fn modules_of(text: &[u8], file: impl Fn(&maps::Line) -> Option<elf::Elf>) -> Vec<FoundModule> {
    let mut modules: Vec<FoundModule> = Vec::new();
    let mut close = |run: Vec<maps::Line>| {
        let Some(first) = run.first().filter(|_| run.iter().any(|line| line.executable)) else {
            return;
        };
        let known = file(first);
        let unwind = known.as_ref().map(|elf| elf.unwind);
        let elf = known.unwrap_or_default();
        // The first mapping of a run begins with the file's first loaded segment.
        let bias = first.start.wrapping_sub(first.offset).wrapping_sub(elf.base & !0xfff);
        let limit = elf
            .end()
            .map_or(u64::MAX, |end| bias.wrapping_add(end).next_multiple_of(0x1000));
        let (own, copies): (Vec<_>, Vec<_>) = run.iter().partition(|line| line.start < limit);
        let module = |bias, start, end| FoundModule {
            path: first.path.to_vec(),
            build_id: elf.build_id.clone(),
            bias,
            start,
            end,
            unwind,
        };
        modules.push(module(bias, first.start, own.last().map_or(first.end, |line| line.end)));
        for copy in copies.iter().filter(|line| line.executable) {
            if let Some(address) = elf.address_of(copy.offset) {
                modules.push(module(copy.start.wrapping_sub(address), copy.start, copy.end));
            }
        }
    };
    let mut run: Vec<maps::Line> = Vec::new();
    for line in maps::lines(text) {
        match run.first() {
            // Anonymous memory right behind is the file's zeroed data, or a stranger; it holds no code of the file either way.
            Some(first) if line.path == first.path && line.offset > 0 => run.push(line),
            _ if line.is_file() => close(std::mem::replace(&mut run, vec![line])),
            _ => {}
        }
    }
    close(run);
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_alive_and_named() {
        let host = Linux::default();
        let pid = std::process::id();
        let identity = host.identify(pid).unwrap();
        assert!(host.alive(identity));
        assert!(!host.alive(Identity {
            started: identity.started + 1,
            ..identity
        }));
        assert!(host.thread_alive(pid, pid));
        let facts = host.facts(pid).unwrap();
        assert!(!facts.exe.is_empty() && !facts.command.is_empty());
        assert!(host.memory(pid).unwrap().rss > Bytes(4096));
        assert!(host.thread_name(pid, pid).is_some());
        assert!(host.has_left(identity, b"/bin/another") && !host.has_left(identity, &facts.exe));
    }

    #[test]
    fn a_program_name_with_parentheses_does_not_confuse_the_state() {
        let text = b"7 (a) R (b) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 3 0 12345 1 1";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.threads, stat.started), (b'S', 3, 12345));
    }

    #[test]
    fn the_code_of_this_process_lies_in_one_of_its_modules() {
        let here = this_as_address();
        let found = Linux::default().modules(std::process::id());
        let module = found
            .iter()
            .find(|module| (module.start..module.end).contains(&here))
            .unwrap();
        assert!(module.bias <= module.start && !module.path.is_empty());
    }

    fn this_as_address() -> u64 {
        this_as_address as *const () as u64
    }

    #[test]
    fn a_file_mapped_twice_is_two_modules() {
        let text = b"1000-2000 r--p 00000000 08:01 1 /a\n2000-3000 r-xp 00001000 08:01 1 /a\n3000-4000 rw-p 0 00:00 0 \n\
            8000-9000 r--p 00000000 08:01 1 /a\n9000-a000 r-xp 00001000 08:01 1 /a\nb000-c000 r--p 00000000 08:01 2 /data\n";
        let modules = modules_of(text, |_| None);
        let ranges: Vec<(u64, u64, u64)> = modules
            .iter()
            .map(|module| (module.start, module.end, module.bias))
            .collect();
        assert_eq!(ranges, [(0x1000, 0x3000, 0x1000), (0x8000, 0xa000, 0x8000)]);
    }

    /// V8 maps the functions built into its program again near the code that it makes. That was taken for the program's end, and all code between for the program's.
    #[test]
    fn a_part_that_is_mapped_again_is_a_module_and_what_lies_between_is_none() {
        let text = b"400000-401000 r--p 00000000 08:01 1 /node\n401000-404000 r-xp 00001000 08:01 1 /node\n500000-600000 rw-p 0 00:00 0 [heap]\n\
            6ff000-700000 r-xp 0 00:00 0 \n700000-701000 r-xp 00002000 08:01 1 /node\n800000-801000 r-xp 00000000 08:01 2 /lib\n";
        let load = |offset, address, length| elf::Load {
            offset,
            file_length: length,
            address,
            length,
        };
        let modules = modules_of(text, |line| {
            (line.path == b"/node").then(|| elf::Elf {
                base: 0x40_0000,
                loads: vec![load(0, 0x40_0000, 0x800), load(0x1000, 0x40_1000, 0x2f00)],
                ..elf::Elf::default()
            })
        });
        let ranges: Vec<(&[u8], u64, u64, u64)> = modules
            .iter()
            .map(|module| (module.path.as_slice(), module.start, module.end, module.bias))
            .collect();
        let expected: [(&[u8], u64, u64, u64); 3] = [
            (b"/node", 0x40_0000, 0x40_4000, 0),
            (b"/node", 0x70_0000, 0x70_1000, 0x70_0000 - 0x40_2000),
            (b"/lib", 0x80_0000, 0x80_1000, 0x80_0000),
        ];
        assert_eq!(ranges, expected);
    }
}
