//! Writing the tape's bytes, and what happens when they cannot be written.

use std::io;

/// Where the bytes go. Behind a trait, so that tests can make any call fail.
pub trait Sink {
    /// Writes some of the bytes; how many.
    ///
    /// # Errors
    /// As the system gives them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts the file to this length. Not every sink can.
    ///
    /// # Errors
    /// As the system gives them.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Waits a little for a sink that can take no more just now.
    fn wait(&mut self);
    /// Waits until all that was written is where it stays when the power fails. Nothing to do for a sink that is no disk.
    ///
    /// # Errors
    /// When the disk could not take it: nobody knows then how much is there.
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// Events that it was given and has dropped.
    fn dropped(&self) -> u64 {
        0
    }
    /// Everything is written: waits until it is where it belongs, within bounds. What the user must know when that was not to be had.
    fn finish(&mut self) -> Option<String> {
        None
    }
    /// What somebody else has done to the file that now should hold `written` bytes, if that makes a tape of it that nobody can read. Not every sink can tell.
    fn disturbance(&self, written: u64) -> Option<&'static str> {
        let _ = written;
        None
    }
}

impl Sink for std::fs::File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(self, bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        use io::Seek;
        self.set_len(length)?;
        self.seek(io::SeekFrom::Start(length)).map(drop)
    }

    fn wait(&mut self) {
        use rustix::event::{poll, PollFd, PollFlags, Timespec};
        let patience = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        // Whatever comes of it, the caller writes again.
        let _ = poll(&mut [PollFd::new(self, PollFlags::OUT)], Some(&patience));
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.sync_data() {
            // A device without a memory of its own.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }

    fn disturbance(&self, written: u64) -> Option<&'static str> {
        use std::os::unix::fs::MetadataExt;
        let facts = self.metadata().ok().filter(|facts| facts.is_file())?;
        if facts.len() != written {
            return Some("another program has written to the tape, or cut it");
        }
        (facts.nlink() == 0).then_some("the tape was deleted while it was being written")
    }
}

/// What standard output leads to, a pipe as a rule: bytes go in, and are never looked at again.
#[derive(Debug)]
pub struct Stream(pub std::fs::File);

impl Sink for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut self.0, bytes)
    }

    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn wait(&mut self) {
        Sink::wait(&mut self.0);
    }
}

impl Sink for Box<dyn Sink> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (**self).write(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        (**self).truncate(length)
    }

    fn wait(&mut self) {
        (**self).wait();
    }

    fn sync(&mut self) -> io::Result<()> {
        (**self).sync()
    }

    fn dropped(&self) -> u64 {
        (**self).dropped()
    }

    fn finish(&mut self) -> Option<String> {
        (**self).finish()
    }

    fn disturbance(&self, written: u64) -> Option<&'static str> {
        (**self).disturbance(written)
    }
}

/// How often in a row a sink may say that it can take nothing just now.
const PATIENCE: u32 = 600;

/// A sink with memory: after a final error it takes nothing more.
#[derive(Debug)]
pub struct Output<S> {
    sink: S,
    written: u64,
    error: Option<io::Error>,
}

impl<S: Sink> Output<S> {
    /// An output at its beginning.
    pub fn new(sink: S) -> Output<S> {
        Output {
            sink,
            written: 0,
            error: None,
        }
    }

    /// Writes whole blocks. On a final error what was begun of them is cut off again, so that the tape ends between two blocks.
    pub fn write(&mut self, blocks: &[u8]) {
        if self.error.is_some() {
            return;
        }
        self.check();
        if self.error.is_some() {
            return;
        }
        match self.write_all(blocks) {
            Ok(()) => self.written += blocks.len() as u64,
            Err(error) => {
                // A pipe cannot be cut; a reader finds the torn block by itself.
                let _ = self.sink.truncate(self.written);
                self.error = Some(error);
            }
        }
    }

    /// Looks whether somebody else has been at the file. What is there then is no longer ours to repair.
    pub fn check(&mut self) {
        if self.error.is_none() {
            self.error = self.sink.disturbance(self.written).map(io::Error::other);
        }
    }

    /// Waits until all that was written is safe from a power cut.
    pub fn sync(&mut self) {
        if self.error.is_none() {
            self.error = self.sink.sync().err();
        }
    }

    /// Events that were given to it and that it has dropped.
    pub fn dropped(&self) -> u64 {
        self.sink.dropped()
    }

    /// Everything is written, or will not be: waits until it is where it belongs, within bounds. What the user must know when that was not to be had.
    pub fn finish(&mut self) -> Option<String> {
        self.sink.finish()
    }

    /// Nothing more is written, for this reason.
    pub fn fail(&mut self, error: io::Error) {
        self.error.get_or_insert(error);
    }

    /// Goes on at the end of another sink, which holds `written` bytes.
    pub fn replace(&mut self, sink: S, written: u64) {
        self.sink = sink;
        self.written = written;
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut patience = PATIENCE;
        while !bytes.is_empty() {
            match self.sink.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or(&[]);
                    patience = PATIENCE;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && patience > 0 => {
                    patience -= 1;
                    self.sink.wait();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Bytes that are surely in the sink.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The error that ended it.
    pub fn error(&self) -> Option<&io::Error> {
        self.error.as_ref()
    }

    /// The sink.
    #[cfg(test)]
    pub fn sink(&self) -> &S {
        &self.sink
    }
}

#[cfg(test)]
/// Sinks that fail.
pub mod testing {
    use super::*;

    /// A sink in memory, whose n-th write fails in a chosen way.
    #[derive(Clone, Debug, Default)]
    pub struct Faulty {
        /// What was written.
        pub bytes: Vec<u8>,
        /// Calls of `write` so far.
        pub calls: u32,
        /// The call (from 1) from which on every write fails with this error number, after taking half of the bytes.
        pub fail_at: Option<(u32, i32)>,
        /// Every other call is interrupted or takes one byte only.
        pub fussy: bool,
        /// No more bytes than this fit.
        pub capacity: Option<usize>,
        /// Somebody else has been at the file from this call on.
        pub disturbed_at: Option<u32>,
        /// Bytes that were there at each call of `sync`.
        pub synced: Vec<usize>,
        /// The call of `sync` (from 1) that fails.
        pub sync_fails_at: Option<usize>,
    }

    impl Sink for Faulty {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if let Some((at, errno)) = self.fail_at {
                if self.calls == at && bytes.len() > 1 {
                    self.bytes.extend_from_slice(&bytes[..bytes.len() / 2]);
                    return Ok(bytes.len() / 2);
                }
                if self.calls >= at {
                    return Err(io::Error::from_raw_os_error(errno));
                }
            }
            if self.fussy {
                match self.calls % 4 {
                    1 => return Err(io::ErrorKind::Interrupted.into()),
                    2 => return Err(io::ErrorKind::WouldBlock.into()),
                    3 => {
                        self.bytes.extend_from_slice(&bytes[..1]);
                        return Ok(1);
                    }
                    _ => {}
                }
            }
            let room = self.capacity.map_or(usize::MAX, |capacity| capacity - self.bytes.len());
            let bytes = &bytes[..bytes.len().min(room)];
            if bytes.is_empty() {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            self.bytes.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn truncate(&mut self, length: u64) -> io::Result<()> {
            self.bytes.truncate(length as usize);
            Ok(())
        }

        fn wait(&mut self) {}

        fn sync(&mut self) -> io::Result<()> {
            self.synced.push(self.bytes.len());
            if self.sync_fails_at == Some(self.synced.len()) {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            Ok(())
        }

        fn disturbance(&self, written: u64) -> Option<&'static str> {
            assert_eq!(written, self.bytes.len() as u64);
            self.disturbed_at
                .filter(|at| self.calls + 1 >= *at)
                .map(|_| "somebody was here")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Faulty;
    use super::*;

    #[test]
    fn interruptions_and_short_writes_cost_nothing() {
        let mut output = Output::new(Faulty {
            fussy: true,
            ..Faulty::default()
        });
        for block in [&b"first"[..], b"second", b"third"] {
            output.write(block);
        }
        assert!(output.error().is_none());
        assert_eq!(output.sink().bytes, b"firstsecondthird");
        assert_eq!(output.written(), 16);
    }

    #[test]
    fn a_final_error_leaves_whole_blocks_and_ends_the_output() {
        for (errno, name) in [
            (libc::ENOSPC, "space"),
            (libc::EIO, "io"),
            (libc::EPIPE, "pipe"),
            (libc::EFBIG, "size"),
        ] {
            for at in 1..=3 {
                let mut output = Output::new(Faulty {
                    fail_at: Some((at, errno)),
                    ..Faulty::default()
                });
                for block in [&b"first"[..], b"second", b"third"] {
                    output.write(block);
                }
                let whole = ["", "first", "firstsecond"][at as usize - 1];
                assert_eq!(output.sink().bytes, whole.as_bytes(), "{name} at {at}");
                assert_eq!(output.error().unwrap().raw_os_error(), Some(errno));
                assert_eq!(output.written(), whole.len() as u64);
            }
        }
    }

    #[test]
    fn a_disk_that_is_full_at_any_byte_holds_whole_blocks() {
        let blocks = [&b"first"[..], b"second", b"third"];
        for capacity in 0..=17 {
            let mut output = Output::new(Faulty {
                capacity: Some(capacity),
                ..Faulty::default()
            });
            for block in blocks {
                output.write(block);
            }
            let whole = match capacity {
                0..5 => "",
                5..11 => "first",
                11..16 => "firstsecond",
                _ => "firstsecondthird",
            };
            assert_eq!(output.sink().bytes, whole.as_bytes(), "{capacity} bytes");
            assert_eq!(output.error().is_some(), whole.len() < 16);
        }
    }

    #[test]
    fn a_file_that_somebody_else_has_changed_is_written_no_further() {
        let mut output = Output::new(Faulty {
            disturbed_at: Some(2),
            ..Faulty::default()
        });
        output.write(b"first");
        output.write(b"second");
        output.write(b"third");
        assert_eq!(output.sink().bytes, b"first");
        assert_eq!(output.error().unwrap().to_string(), "somebody was here");
    }

    #[test]
    fn a_real_file_tells_when_it_was_cut_or_deleted() {
        let path = std::env::temp_dir().join(format!("heaptape-disturbed-{}", std::process::id()));
        let mut file = std::fs::File::create(&path).unwrap();
        Sink::write(&mut file, b"12345").unwrap();
        assert_eq!(file.disturbance(5), None);
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(2)
            .unwrap();
        assert!(file.disturbance(5).unwrap().contains("cut"));
        std::fs::remove_file(&path).unwrap();
        assert!(file.disturbance(2).unwrap().contains("deleted"));
    }
}
