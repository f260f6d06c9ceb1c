//! Where received tapes are put: one into a file, or any number into a folder.

use super::store::{Store, StoreError};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A tape, shared by the connections that bring it: a broken one may look whole to this end for a while.
pub type Shared = Arc<Mutex<Store>>;

/// Whatever a thread has left, its block is written or it is not.
pub fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where tapes are put. No part of a name comes from a sender.
#[derive(Debug)]
pub struct Shelf {
    place: Place,
    stores: Mutex<HashMap<u64, Shared>>,
}

#[derive(Debug)]
enum Place {
    File { path: PathBuf, overwrite: bool },
    Folder(PathBuf),
}

impl Shelf {
    /// A folder that is there, or else a file. `overwrite`: whether the first tape may replace a file that is no part of it.
    pub fn new(path: PathBuf, overwrite: bool) -> Shelf {
        let place = if path.is_dir() {
            Place::Folder(path)
        } else {
            Place::File { path, overwrite }
        };
        Shelf {
            place,
            stores: Mutex::default(),
        }
    }

    /// Whether more than one tape has a place.
    pub fn is_folder(&self) -> bool {
        matches!(self.place, Place::Folder(_))
    }

    /// The place of a tape.
    ///
    /// # Errors
    /// When it has none.
    pub fn find(&self, tape: u64) -> Result<Shared, StoreError> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(&tape) {
            return Ok(Arc::clone(store));
        }
        let store = match &self.place {
            Place::File { path, .. } if !stores.is_empty() => return Err(StoreError::Occupied(path.clone())),
            Place::File { path, overwrite } => Store::open(path, tape, *overwrite)?,
            Place::Folder(folder) => Store::open(&folder.join(format!("heaptape.{tape:016x}.tape")), tape, false)?,
        };
        let store = Arc::new(Mutex::new(store));
        stores.insert(tape, Arc::clone(&store));
        Ok(store)
    }

    /// Forgets a tape of which nothing has come.
    pub fn put_back(&self, tape: u64) {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if stores.get(&tape).is_some_and(|store| lock(store).next() == 0) {
            stores.remove(&tape);
        }
    }
}
