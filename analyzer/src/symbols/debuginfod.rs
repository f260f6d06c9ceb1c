//! Debug files from debuginfod servers, kept in the cache that elfutils uses.
//!
//! ```text
//!  CACHE/<build-id>/debuginfo    the debug file; empty: the servers did not have it when this was written
//!  CACHE/<build-id>/executable   the file itself
//! ```
//! Nothing is asked of a server unless the user wants it: a build-id tells what runs here. What comes is put into the cache only if it is the build that was asked for.

use super::elf;
use super::image::Image;
use super::locate::hex;
use object::Object;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// What elfutils waits for a server to say something, unless `DEBUGINFOD_TIMEOUT` says otherwise.
const PATIENCE: Duration = Duration::from_secs(90);
/// One file takes no longer than this, unless `DEBUGINFOD_MAXTIME` says otherwise.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// To reach a server.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of one file, unless `DEBUGINFOD_MAXSIZE` says otherwise.
const LARGEST: u64 = 4 << 30;
/// A server that had nothing is asked again after this time.
const MISS: Duration = Duration::from_secs(600);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The file with debug information.
    DebugInfo,
    /// The program or library itself.
    Executable,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::DebugInfo => "debuginfo",
            Kind::Executable => "executable",
        }
    }
}

/// The servers and the cache.
#[derive(Clone, Debug)]
pub struct Debuginfod {
    /// Addresses, in the order in which they are asked.
    pub servers: Vec<String>,
    /// The folder with what came.
    pub cache: PathBuf,
    /// For a server to say something, and for it to go on.
    pub patience: Duration,
    /// For one file.
    pub longest: Duration,
    /// Bytes of one file.
    pub largest: u64,
    /// Servers that did not answer are not asked again.
    dead: Arc<Mutex<Vec<String>>>,
}

impl Debuginfod {
    /// These servers and this cache, with the usual bounds.
    pub fn new(servers: Vec<String>, cache: PathBuf) -> Debuginfod {
        Debuginfod {
            servers,
            cache,
            patience: PATIENCE,
            longest: LONGEST,
            largest: LARGEST,
            dead: Arc::default(),
        }
    }

    /// As the environment says: `DEBUGINFOD_URLS`, `DEBUGINFOD_CACHE_PATH`, `DEBUGINFOD_TIMEOUT`, `DEBUGINFOD_MAXTIME` (seconds), `DEBUGINFOD_MAXSIZE` (bytes).
    ///
    /// # Errors
    /// Says what is missing.
    pub fn from_environment() -> Result<Debuginfod, String> {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
        let number = |name: &str| {
            text(name)
                .and_then(|text| text.trim().parse::<u64>().ok())
                .filter(|&n| n > 0)
        };
        let servers: Vec<String> = text("DEBUGINFOD_URLS")
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        if servers.is_empty() {
            return Err("--debuginfod needs servers: set DEBUGINFOD_URLS to their addresses".to_owned());
        }
        let folder = |name: &str| text(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let in_home = || {
            let home = folder("HOME")?;
            let old = home.join(".debuginfod_client_cache");
            let new = folder("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
            // elfutils goes on with the old place where there is one.
            Some(if old.is_dir() {
                old
            } else {
                new.join("debuginfod_client")
            })
        };
        let cache = folder("DEBUGINFOD_CACHE_PATH")
            .or_else(in_home)
            .ok_or("--debuginfod needs a cache: set HOME or DEBUGINFOD_CACHE_PATH")?;
        let mut found = Debuginfod::new(servers, cache);
        found.patience = number("DEBUGINFOD_TIMEOUT").map_or(PATIENCE, Duration::from_secs);
        found.longest = number("DEBUGINFOD_MAXTIME").map_or(LONGEST, Duration::from_secs);
        found.largest = number("DEBUGINFOD_MAXSIZE").unwrap_or(LARGEST);
        Ok(found)
    }

    /// The file of a build, from the cache or from the first server that has it; `None` when none has.
    ///
    /// # Errors
    /// Says what went wrong with the servers.
    pub(super) fn fetch(&self, build_id: &[u8], kind: Kind) -> Result<Option<PathBuf>, String> {
        if build_id.is_empty() {
            return Ok(None);
        }
        let folder = self.cache.join(hex(build_id));
        let path = folder.join(kind.name());
        match std::fs::metadata(&path) {
            Ok(known) if known.is_file() && known.len() > 0 => return Ok(Some(path)),
            Ok(known) if is_recent(&known) => return Ok(None),
            _ => {}
        }
        let mut problem = None;
        for server in &self.servers {
            if self.dead().contains(server) {
                continue;
            }
            if server.starts_with("https:") && !cfg!(feature = "https") {
                let what = "this heaptape was built without https (cargo build --release --features https)";
                problem = Some(format!("{server}: {what}"));
                continue;
            }
            let url = format!(
                "{}/buildid/{}/{}",
                server.trim_end_matches('/'),
                hex(build_id),
                kind.name()
            );
            match self.download(&url, build_id, &path) {
                Ok(true) => return Ok(Some(path)),
                Ok(false) => {}
                Err(Trouble::Server(what)) => {
                    self.dead().push(server.clone());
                    problem = Some(format!("{server}: {what}"));
                }
                Err(Trouble::File(what)) => problem = Some(format!("{url}: {what}")),
            }
        }
        match problem {
            Some(problem) => Err(problem),
            // Without a cache the servers are asked again next time.
            None => {
                let _ = std::fs::create_dir_all(&folder).and_then(|()| note_miss(&path));
                Ok(None)
            }
        }
    }

    fn dead(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.dead.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether the server had the file, which then is at `path`.
    fn download(&self, url: &str, build_id: &[u8], path: &Path) -> Result<bool, Trouble> {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(self.longest))
            .timeout_connect(Some(CONNECT.min(self.patience)))
            .timeout_recv_response(Some(self.patience))
            .timeout_per_read(Some(self.patience))
            .http_status_as_error(false)
            .user_agent(concat!("heaptape/", env!("CARGO_PKG_VERSION")))
            .build();
        let server = |error: ureq::Error| Trouble::Server(error.to_string());
        let mut response = ureq::Agent::new_with_config(config).get(url).call().map_err(server)?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(false),
            status => return Err(Trouble::Server(format!("it answered with status {status}"))),
        }
        let file = |error: io::Error| Trouble::File(error.to_string());
        let folder = path.parent().unwrap_or(&self.cache);
        std::fs::create_dir_all(folder).map_err(file)?;
        let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(file)?;
        let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
        let mut piece = vec![0; 1 << 18];
        let mut length = 0u64;
        loop {
            let read = body.read(&mut piece).map_err(file)?;
            if read == 0 {
                break;
            }
            length += read as u64;
            if length > self.largest {
                return Err(Trouble::File(format!("it is larger than {} bytes", self.largest)));
            }
            temporary.write_all(&piece[..read]).map_err(file)?;
        }
        let image = Image::of(temporary.as_file()).map_err(file)?;
        let object = elf::parse(image.bytes()).ok_or_else(|| Trouble::File("it is not an ELF file".to_owned()))?;
        let found = object.build_id().ok().flatten().unwrap_or_default();
        if found != build_id {
            return Err(Trouble::File(format!("its build-id is {}; refused", hex(found))));
        }
        temporary.persist(path).map_err(|error| file(error.error))?;
        Ok(true)
    }
}

/// Why a file did not come.
enum Trouble {
    /// The server is not to be asked again.
    Server(String),
    /// It is the file.
    File(String),
}

/// Leaves an empty file; one that another client has put there meanwhile stays whole.
fn note_miss(path: &Path) -> io::Result<()> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    if file.metadata()?.len() == 0 {
        file.set_modified(SystemTime::now())?;
    }
    Ok(())
}

fn is_recent(known: &std::fs::Metadata) -> bool {
    let age = known
        .modified()
        .ok()
        .and_then(|then| SystemTime::now().duration_since(then).ok());
    known.is_file() && age.is_some_and(|age| age < MISS)
}
