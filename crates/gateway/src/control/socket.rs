//! Where the control socket is, and how it is bound so that nobody else can take its place or open it.
//!
//! It is made in a folder that only this user can enter, given mode 0600 there, and then moved to its place in one step, so
//! there is no moment at which another user could open it. A lock file beside it, held as long as the process lives, tells a
//! socket that a killed process left behind from one that is in use.
//!
//! Invariant: nothing is removed or replaced but a socket of this user that no living gateway holds.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::config::{Config, StorePlace};

/// The name of the socket where only its folder is known.
pub const NAME: &str = "portcullis.sock";

/// The longest path that the operating system takes for a socket, in bytes (`sun_path` of unix(7), without its last zero).
const LONGEST_PATH_BYTES: usize = 107;

/// A bound socket. Dropped, the socket is removed.
#[derive(Debug)]
pub struct Bound {
    /// What to accept from; taken by whoever serves.
    pub listener: UnixListener,
    /// Keeps the place, and gives it up.
    pub place: Place,
}

/// The socket's place, held as long as this lives.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    inode: u64,
    _lock: File,
}

/// Why the socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another gateway holds it.
    #[error("another running gateway holds {0}")]
    Taken(PathBuf),
    /// It would not be safe there.
    #[error("{path} is no safe place for the control socket: {why}")]
    Unsafe {
        /// Where.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The operating system said no.
    #[error("{what} {path}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl Drop for Place {
    fn drop(&mut self) {
        // Only what is still this process's own; somebody may have put another there by hand.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Where `config` has the socket, and whether the operator said so: `control.socket`, or else beside the durable store, or
/// else in `$XDG_RUNTIME_DIR`. `None` when it is turned off or none of these is there.
#[must_use]
pub fn place(config: &Config) -> Option<(PathBuf, bool)> {
    if !config.control.enabled {
        return None;
    }
    if let Some(path) = &config.control.socket {
        return Some((config.folder.join(path), true));
    }
    if let Ok(StorePlace::Sqlite(path)) = config.store.place() {
        return Some((folder_of(&config.folder.join(path)).join(NAME), false));
    }
    // The XDG base directory specification: a relative path there is no path.
    let runtime = || std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute());
    runtime().map(|folder| (folder.join(NAME), false))
}

/// Binds the socket at `path`.
///
/// # Errors
/// [`SocketError`]; then nothing was left behind.
pub fn bind(path: &Path) -> Result<Bound, SocketError> {
    let system = |what, path: &Path| {
        let path = path.to_owned();
        move |source| SocketError::System { what, path, source }
    };
    let folder = folder_of(path);
    let private = folder.join(format!(".p-{}", std::process::id()));
    let length = path.as_os_str().len().max(private.join("s").as_os_str().len());
    if length > LONGEST_PATH_BYTES {
        let why = format!("the path has {length} bytes, and a socket's may have {LONGEST_PATH_BYTES}");
        return Err(SocketError::Unsafe { path: path.to_owned(), why });
    }
    let own = rustix::process::geteuid().as_raw();
    let metadata = std::fs::metadata(folder).map_err(system("looking at the folder of the control socket", folder))?;
    if let Some(why) = unsafe_folder(&metadata, own) {
        return Err(SocketError::Unsafe { path: path.to_owned(), why });
    }
    let lock = lock(path)?;
    check_old(path, own)?;
    // Left by a process of the same number that was killed in the middle of this.
    let _ = std::fs::remove_file(private.join("s"));
    let _ = std::fs::remove_dir(&private);
    DirBuilder::new().mode(0o700).create(&private).map_err(system("making the folder", &private))?;
    let bound = bind_inside(&private, path);
    let _ = std::fs::remove_file(private.join("s"));
    let _ = std::fs::remove_dir(&private);
    let (listener, inode) = bound?;
    Ok(Bound { listener, place: Place { path: path.to_owned(), inode, _lock: lock } })
}

/// The folder a path stands in; the working directory for a bare name.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn bind_inside(private: &Path, path: &Path) -> Result<(UnixListener, u64), SocketError> {
    let system = |what, path: &Path| {
        let path = path.to_owned();
        move |source| SocketError::System { what, path, source }
    };
    let inside = private.join("s");
    let listener = UnixListener::bind(&inside).map_err(system("binding the control socket in", private))?;
    listener.set_nonblocking(true).map_err(system("binding the control socket in", private))?;
    std::fs::set_permissions(&inside, Permissions::from_mode(0o600)).map_err(system("closing to others", &inside))?;
    let inode = std::fs::symlink_metadata(&inside).map_err(system("looking at", &inside))?.ino();
    std::fs::rename(&inside, path).map_err(system("moving the control socket to", path))?;
    Ok((listener, inode))
}

/// Takes the lock beside the socket.
fn lock(path: &Path) -> Result<File, SocketError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let system = |source| SocketError::System { what: "locking", path: name.clone(), source };
    // Never through a link: in a shared folder somebody could make it point at a file of ours.
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(&name);
    let file = opened.map_err(system)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SocketError::Taken(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(system(source)),
    }
}

/// Refuses to replace what is not a socket of this user.
fn check_old(path: &Path, own: u32) -> Result<(), SocketError> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(SocketError::System { what: "looking at", path: path.to_owned(), source }),
    };
    let refuse = |why: &str| Err(SocketError::Unsafe { path: path.to_owned(), why: why.to_owned() });
    if !found.file_type().is_socket() {
        refuse("something that is no socket stands there")
    } else if found.uid() != own {
        refuse("a socket of another user stands there")
    } else {
        Ok(())
    }
}

/// Why others could put something of theirs in the place of the socket.
fn unsafe_folder(folder: &Metadata, own: u32) -> Option<String> {
    let is_sticky = folder.mode() & 0o1000 != 0;
    if !folder.is_dir() {
        Some("its folder is no folder".to_owned())
    } else if folder.uid() != own && folder.uid() != 0 {
        Some(format!("its folder belongs to user {}, who could replace it", folder.uid()))
    } else if folder.mode() & 0o022 != 0 && !is_sticky {
        Some(format!("others may write its folder (mode {:o}) and could replace it", folder.mode() & 0o7777))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("portcullis-socket-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_its_user_can_open_it_and_it_is_gone_with_its_holder() {
        let folder = fresh("mode");
        let path = folder.join(NAME);
        let bound = bind(&path).unwrap();
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.mode() & 0o777, 0o600);
        assert_eq!(names(&folder), ["portcullis.sock", "portcullis.sock.lock"]);
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        drop(bound);
        assert_eq!(names(&folder), ["portcullis.sock.lock"]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn one_in_use_is_refused_and_one_left_behind_is_replaced() {
        let folder = fresh("stale");
        let path = folder.join(NAME);
        let first = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::Taken(_))));
        // What kill -9 leaves: the socket without its lock.
        let Bound { listener, place } = first;
        let Place { _lock, .. } = &place;
        _lock.unlock().unwrap();
        drop(listener);
        assert!(path.exists());
        let second = bind(&path).unwrap();
        drop(place);
        assert!(path.exists(), "the old holder must not remove the new one's socket");
        drop(second);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_others_could_replace_and_what_is_no_socket_is_refused() {
        let folder = fresh("unsafe");
        let path = folder.join(NAME);
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::Unsafe { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::Unsafe { .. })));
        std::fs::remove_file(&path).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        let refused = bind(&path).unwrap_err();
        assert!(refused.to_string().contains("mode 777"), "{refused}");
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let long = folder.join("x".repeat(120));
        assert!(matches!(bind(&long), Err(SocketError::Unsafe { .. })));
        assert!(matches!(bind(&folder.join("absent/s.sock")), Err(SocketError::System { .. })));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
