//! Where a column lies while it grows: in memory, or in a file without a name that is mapped, so that the system can move it to disk.
//!
//! Such a file is gone when the process is, however it ends. Its space on disk is taken before it is written to: a full disk is an error, not a signal.
#![allow(unsafe_code)]

use super::column::Number;
use memmap2::{Advice, MmapMut, MmapOptions, UncheckedAdvice};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// A mapping has a multiple of so many bytes.
const STEP: usize = 1 << 20;

/// Smaller stores are not worth large pages.
const HUGE: usize = 8 << 20;

/// So many bytes of a store on disk are looked at before their memory is given back.
const LOOKED: usize = 4 << 20;

/// So many bytes the system maps, at most, where one is looked at.
const AROUND: usize = 64 << 10;

/// Makes stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In memory.
    #[default]
    Memory,
    /// In files in this folder.
    Folder(PathBuf),
}

impl Storage {
    /// Files in the first folder that takes one.
    pub(crate) fn in_one_of(folders: &[PathBuf]) -> io::Result<Storage> {
        let mut refused = io::Error::from(io::ErrorKind::NotFound);
        for folder in folders {
            match nameless(folder) {
                Ok(_) => return Ok(Storage::Folder(folder.clone())),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// An empty store that is going to hold about so many numbers.
    pub(crate) fn store<T: Number>(&self, about: usize) -> io::Result<Store<T>> {
        match self {
            Storage::Memory if about.saturating_mul(size_of::<T>()) < HUGE => Ok(Store::default()),
            storage => {
                let file = match storage {
                    Storage::Memory => None,
                    Storage::Folder(folder) => Some(nameless(folder)?),
                };
                let mut mapped = Mapped {
                    file,
                    map: None,
                    taken: 0,
                    looked: Looked::default(),
                };
                let done = mapped.map_at_least(about.max(1).saturating_mul(size_of::<T>()));
                if done.is_err() && mapped.file.is_none() {
                    return Ok(Store::default());
                }
                done?;
                Ok(Store(Place::Mapped { mapped, len: 0 }))
            }
        }
    }
}

/// A file that has no name any more.
fn nameless(folder: &Path) -> io::Result<File> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".heaptape-{}-{number}.spill", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Numbers that become more.
pub struct Store<T>(Place<T>);

enum Place<T> {
    Memory(Vec<T>),
    Mapped { mapped: Mapped, len: usize },
}

/// Pages of a file without a name, or large pages of nothing, which cost a tenth of the page faults.
struct Mapped {
    file: Option<File>,
    map: Option<MmapMut>,
    /// Bytes that have their place on disk.
    taken: usize,
    looked: Looked,
}

/// What of a mapping has been looked at since its memory was given back: a measure, no exact count.
struct Looked {
    bytes: AtomicUsize,
    /// Windows of [`AROUND`] bytes, by number, that are counted already; each has one place where it can be. One more than its number.
    windows: Box<[AtomicUsize]>,
}

impl Default for Looked {
    fn default() -> Looked {
        Looked {
            bytes: AtomicUsize::new(0),
            windows: (0..LOOKED / AROUND).map(|_| AtomicUsize::new(0)).collect(),
        }
    }
}

impl Mapped {
    fn map_at_least(&mut self, bytes: usize) -> io::Result<()> {
        let bytes = bytes.next_multiple_of(STEP);
        let Some(file) = &self.file else {
            let mut map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon()?;
            // Where there are no large pages, small ones do.
            let _ = map.advise(Advice::HugePage);
            if let Some(old) = self.map.take() {
                map[..old.len()].copy_from_slice(&old);
            }
            self.map = Some(map);
            return Ok(());
        };
        self.map = None;
        file.set_len(bytes as u64)?;
        // SAFETY: nobody else has this file: it had a name of its own for an instant, and is written through this mapping and by `take` only, which needs `&mut self`.
        self.map = Some(unsafe { MmapOptions::new().len(bytes).map_mut(file)? });
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> io::Result<()> {
        if self.map.as_ref().is_none_or(|map| map.len() < bytes) {
            self.map_at_least(bytes.saturating_mul(2))?;
        }
        let Some(file) = &self.file else { return Ok(()) };
        while self.taken < bytes {
            // The system maps as much as was written at once where one byte of it is looked at.
            static ZEROS: [u8; AROUND] = [0; AROUND];
            file.write_all_at(&ZEROS, self.taken as u64)?;
            self.taken += AROUND;
        }
        Ok(())
    }

    /// To be told what of a file is going to be looked at, so that it does not come to be in memory as a whole.
    #[inline]
    fn look(&self, bytes: Range<usize>) {
        if self.file.is_some() {
            self.look_at_file(bytes);
        }
    }

    fn look_at_file(&self, bytes: Range<usize>) {
        for window in bytes.start / AROUND..bytes.end.div_ceil(AROUND) {
            let place = &self.looked.windows[window % self.looked.windows.len()];
            if place.load(Ordering::Relaxed) != window + 1 {
                if self.looked.bytes.fetch_add(AROUND, Ordering::Relaxed) >= LOOKED {
                    self.release();
                }
                place.store(window + 1, Ordering::Relaxed);
            }
        }
    }

    fn release(&self) {
        self.looked.bytes.store(0, Ordering::Relaxed);
        self.looked
            .windows
            .iter()
            .for_each(|place| place.store(0, Ordering::Relaxed));
        if let (Some(map), Some(_)) = (&self.map, &self.file) {
            // SAFETY: the mapping is shared, so its pages are those of the file: what was written stays, and is mapped again when it is looked at, by whoever holds a slice of
            // it, too. Where the system refuses, nothing is lost but memory.
            let _ = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
        }
    }

    fn bytes(&self, len: usize) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| &map[..len])
    }

    fn bytes_mut(&mut self, len: usize) -> &mut [u8] {
        self.map.as_mut().map_or(&mut [], |map| &mut map[..len])
    }
}

impl<T: Number> Store<T> {
    /// Makes room for more numbers. What is added after that needs no further room.
    pub(crate) fn reserve(&mut self, more: usize) -> io::Result<()> {
        match &mut self.0 {
            Place::Memory(numbers) => {
                numbers.reserve(more);
                Ok(())
            }
            Place::Mapped { mapped, len } => mapped.take((*len + more).saturating_mul(size_of::<T>())),
        }
    }

    /// Appends numbers, to be written now.
    pub(crate) fn grow(&mut self, more: usize) -> io::Result<&mut [T]> {
        self.reserve(more)?;
        let before = match &mut self.0 {
            Place::Memory(numbers) => {
                let before = numbers.len();
                numbers.resize(before + more, T::zeroed());
                before
            }
            Place::Mapped { len, .. } => {
                *len += more;
                *len - more
            }
        };
        Ok(&mut self[before..])
    }

    /// Appends numbers for which there is room.
    pub(crate) fn extend_from_slice(&mut self, more: &[T]) {
        match &mut self.0 {
            Place::Memory(numbers) => numbers.extend_from_slice(more),
            Place::Mapped { len, .. } => {
                let from = *len;
                *len += more.len();
                self[from..].copy_from_slice(more);
            }
        }
    }

    /// Appends numbers for which there is room.
    pub(crate) fn extend(&mut self, more: impl ExactSizeIterator<Item = T>) {
        match &mut self.0 {
            Place::Memory(numbers) => numbers.extend(more),
            Place::Mapped { len, .. } => {
                let from = *len;
                *len += more.len();
                self[from..]
                    .iter_mut()
                    .zip(more)
                    .for_each(|(place, number)| *place = number);
            }
        }
    }

    /// Gives the memory back that holds what is on disk as well, or can be.
    pub(crate) fn release(&self) {
        if let Place::Mapped { mapped, .. } = &self.0 {
            mapped.release();
        }
    }

    /// Some numbers, for whoever does not hold on to them: of a store on disk, what was looked at goes out of memory after a while.
    #[inline]
    pub(crate) fn look(&self, numbers: Range<usize>) -> &[T] {
        if let Place::Mapped { mapped, .. } = &self.0 {
            mapped.look(numbers.start * size_of::<T>()..numbers.end * size_of::<T>());
        }
        &self[numbers]
    }
}

impl<T: Number> Store<T> {
    /// Gives the space back, in memory and on disk, of some numbers of a store on disk: they are zeros from now on.
    pub(crate) fn discard(&self, numbers: Range<usize>) {
        if let Place::Mapped { mapped, .. } = &self.0 {
            let (from, until) = (numbers.start * size_of::<T>(), numbers.end * size_of::<T>());
            let is_there = |map: &&MmapMut| mapped.file.is_some() && from < until && until <= map.len();
            if let Some(map) = mapped.map.as_ref().filter(is_there) {
                // SAFETY: the pages of the shared mapping become holes of the file, which read as zeros, as numbers may. Nobody holds a slice of them: a store that is being
                // discarded is not used for anything else. Where the system refuses, they stay what they were.
                let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::Remove, from, until - from) };
            }
        }
    }
}

impl<T: Number> Deref for Store<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match &self.0 {
            Place::Memory(numbers) => numbers,
            Place::Mapped { mapped, len } => bytemuck::cast_slice(mapped.bytes(*len * size_of::<T>())),
        }
    }
}

impl<T: Number> DerefMut for Store<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Place::Memory(numbers) => numbers,
            Place::Mapped { mapped, len } => bytemuck::cast_slice_mut(mapped.bytes_mut(*len * size_of::<T>())),
        }
    }
}

impl<T> Default for Store<T> {
    fn default() -> Store<T> {
        Store(Place::Memory(Vec::new()))
    }
}

impl<T> From<Vec<T>> for Store<T> {
    fn from(numbers: Vec<T>) -> Store<T> {
        Store(Place::Memory(numbers))
    }
}

impl<T> FromIterator<T> for Store<T> {
    fn from_iter<I: IntoIterator<Item = T>>(numbers: I) -> Store<T> {
        Store(Place::Memory(numbers.into_iter().collect()))
    }
}

/// Numbers that several threads may write.
pub(crate) struct Atomics<'a> {
    numbers: &'a [AtomicU32],
    mapped: Option<&'a Mapped>,
}

impl Store<u32> {
    /// For several threads to write.
    pub(crate) fn atomics(&mut self) -> Atomics<'_> {
        let numbers: *mut [u32] = &mut self[..];
        Atomics {
            // SAFETY: an `AtomicU32` has the size and the alignment of a `u32` on every platform with 64-bit addresses. The numbers lie in a vector's or a mapping's memory,
            // not in the store, and the exclusive borrow of the store makes sure that nobody else looks at them as plain ones as long as the result lives.
            numbers: unsafe { &*(numbers as *const [AtomicU32]) },
            mapped: match &self.0 {
                Place::Memory(_) => None,
                Place::Mapped { mapped, .. } => Some(mapped).filter(|mapped| mapped.file.is_some()),
            },
        }
    }
}

impl Atomics<'_> {
    /// The number at a place, if there is one.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&AtomicU32> {
        if let Some(mapped) = self.mapped {
            mapped.look_at_file(at * size_of::<u32>()..(at + 1) * size_of::<u32>());
        }
        self.numbers.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_file_are_those_in_memory_and_the_file_has_no_name() {
        let folder = std::env::temp_dir().join(format!("heaptape-store-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let storage = Storage::in_one_of(&["/proc".into(), folder.clone()]).expect("one of them takes files");
        // More than was said.
        let store = |storage: &Storage, about| storage.store::<u64>(about).expect("it can be made");
        let (mut disk, mut memory) = (store(&storage, 10), Store::<u64>::default());
        let mut large = store(&Storage::Memory, HUGE);
        for round in 0..50u32 {
            for store in [&mut disk, &mut memory, &mut large] {
                store.reserve(20_000).expect("there is room");
                store.extend_from_slice(&[round.into(); 10_000]);
                store.extend((0..10_000u32).map(|n| u64::from(n * round)));
                store[round as usize] += 1;
                store.release();
            }
        }
        assert!(disk[..] == memory[..] && large[..] == memory[..] && disk.len() == 1_000_000);
        assert_eq!(std::fs::read_dir(&folder).expect("it is there").count(), 0);
        // A whole number of pages, in the middle.
        disk.discard(4096..8192);
        assert!(disk[4096..8192]
            .iter()
            .all(|&number| number == 0 || number == memory[5000]));
        assert!(disk[..4096] == memory[..4096] && disk[8192..] == memory[8192..]);
        let mut words = storage.store::<u32>(4).expect("it can be made");
        words.reserve(4).expect("there is room");
        words.extend(0..4u32);
        let all = words.atomics();
        all.get(3).expect("it is there").store(9, Ordering::Relaxed);
        assert!(all.get(4).is_none());
        assert_eq!(words[..], [0, 1, 2, 9]);
        std::fs::remove_dir(&folder).expect("it is empty");
        assert!(Storage::in_one_of(&["/proc".into()]).is_err());
    }

    /// Bytes of memory that the mapping of a store takes.
    fn resident<T: Number>(store: &Store<T>) -> usize {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("it can be read");
        let start = format!("{:x}-", store.as_ptr() as usize);
        let of_it = maps.lines().skip_while(|line| !line.starts_with(&start));
        let line = of_it.into_iter().find_map(|line| line.strip_prefix("Rss:"));
        let kibibytes = line
            .expect("it is mapped")
            .trim()
            .strip_suffix("kB")
            .expect("it is in kB");
        kibibytes.trim().parse::<usize>().expect("it is a number") * 1024
    }

    #[test]
    fn looking_at_a_store_on_disk_takes_little_memory_in_any_order() {
        const NUMBERS: usize = 4 << 20;
        let _alone = crate::MEMORY.lock();
        let folder = std::env::temp_dir();
        let mut store = Storage::Folder(folder).store::<u64>(NUMBERS).expect("it can be made");
        store.reserve(NUMBERS).expect("there is room");
        store.extend((0..NUMBERS).map(|number| number as u64));
        assert!(resident(&store) > 4 * LOOKED, "it was in memory as a whole");
        store.release();
        let most = 2 * LOOKED;
        for piece in 0..NUMBERS / 65_536 {
            let numbers = store.look(piece * 65_536..(piece + 1) * 65_536);
            assert_eq!(numbers[77], (piece * 65_536 + 77) as u64);
            assert!(resident(&store) <= most);
        }
        for step in 0..2000 {
            let at = step * 1_000_003 % NUMBERS;
            assert_eq!(store.look(at..at + 1), [at as u64]);
            if step % 100 == 0 {
                assert!(resident(&store) <= most);
            }
        }
        let mut words = Storage::Folder(std::env::temp_dir())
            .store::<u32>(NUMBERS)
            .expect("it can be made");
        words.reserve(NUMBERS).expect("there is room");
        words.extend((0..NUMBERS).map(|_| 0u32));
        words.release();
        let all = words.atomics();
        for step in 0..2000 {
            all.get(step * 1_000_003 % NUMBERS)
                .expect("it is there")
                .store(1, Ordering::Relaxed);
        }
        assert!(resident(&words) <= most);
        assert_eq!(words.iter().filter(|&&word| word == 1).count(), 2000);
    }
}
