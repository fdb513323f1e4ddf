//! Addresses, and the sockets behind them: TCP or Unix, non-blocking, without delay, known to `fork`.
use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    str::FromStr,
    thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt},
};

use crate::{fork, tracked::Tracked};

const LOCK_TRIES: usize = 400;
const LOCK_PAUSE: Duration = Duration::from_millis(5);
const BACKLOG: i32 = 1024;
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// The address of a node: `host:port` or `unix:/path`.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    Tcp(String),
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{text:?}: {why}"));
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err(invalid("a Unix socket needs a path")),
                1..=107 => Ok(Self::Unix(path.into())),
                long => Err(invalid(&format!("a Unix socket's path has at most 107 bytes, this one has {long}"))),
            };
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Self::Tcp(text.into())),
            _ => Err(invalid("an address is host:port or unix:/path")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(text) => f.write_str(text),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Reads an IP address and port. A name is an error: `Names` looks those up.
fn ip(text: &str) -> io::Result<SocketAddr> {
    text.parse().map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn open(address: &SocketAddr) -> io::Result<Tracked<OwnedFd>> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Tracked::open(|| Ok(net::socket_with(family, SocketType::STREAM, FLAGS, None)?))
}

fn open_unix() -> io::Result<Tracked<OwnedFd>> {
    Tracked::open(|| Ok(net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?))
}

/// Begins to connect. The socket becomes writable when that has ended.
pub fn connect(address: &Address) -> io::Result<Tracked<OwnedFd>> {
    let (socket, begun) = match address {
        Address::Tcp(text) => {
            let to = ip(text)?;
            let socket = open(&to)?;
            sockopt::set_tcp_nodelay(&socket, true)?;
            let begun = net::connect(&socket, &to);
            (socket, begun)
        }
        Address::Unix(path) => {
            let socket = open_unix()?;
            let begun = net::connect(&socket, &SocketAddrUnix::new(path)?);
            (socket, begun)
        }
    };
    match begun {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Returns how a connect ended, once the socket is writable.
pub fn connected(socket: &Tracked<OwnedFd>) -> io::Result<()> {
    Ok(sockopt::socket_error(socket)??)
}

/// A bound, listening socket, non-blocking.
pub struct Listener {
    pub socket: Tracked<OwnedFd>,
    /// With the port that the system chose.
    pub address: Address,
    pub file: Option<SocketFile>,
}

/// The file of a Unix socket. It is removed when this is dropped, if it is still the same file.
pub struct SocketFile {
    path: PathBuf,
    id: (u64, u64), // device and inode
    generation: u64,
}

impl Listener {
    /// Listens at the first place of an address that can be bound.
    pub fn bind(address: &Address, places: &[Address]) -> io::Result<Self> {
        let mut failed = io::ErrorKind::AddrNotAvailable.into();
        for place in places {
            match Self::bind_at(address, place) {
                Ok(listener) => return Ok(listener),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Serves a listening socket that another program, such as systemd, has bound to this address. Its file is not ours.
    pub fn inherited(address: Address, socket: OwnedFd) -> io::Result<Self> {
        let socket = Tracked::open(|| Ok(socket))?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket, address, file: None })
    }

    fn bind_at(address: &Address, place: &Address) -> io::Result<Self> {
        match place {
            Address::Tcp(text) => {
                let at = ip(text)?;
                let socket = open(&at)?;
                sockopt::set_socket_reuseaddr(&socket, true)?;
                net::bind(&socket, &at)?;
                net::listen(&socket, BACKLOG)?;
                let bound = SocketAddr::try_from(net::getsockname(&socket)?)?;
                let named = address.to_string();
                let host = named.rsplit_once(':').map_or("", |(host, _)| host);
                let address = Address::Tcp(format!("{host}:{}", bound.port()));
                Ok(Self { socket, address, file: None })
            }
            Address::Unix(path) => {
                let _alone = alone(path)?;
                remove_stale(path)?;
                let socket = open_unix()?;
                net::bind(&socket, &SocketAddrUnix::new(path)?)?;
                let made = fs::symlink_metadata(path)?;
                let id = (made.dev(), made.ino());
                let file = Some(SocketFile { path: path.clone(), id, generation: fork::generation() });
                net::listen(&socket, BACKLOG)?;
                Ok(Self { socket, address: address.clone(), file })
            }
        }
    }
}

impl SocketFile {
    /// Returns whether the path still leads to this socket. A cleaner of temporary files may have removed the file.
    pub fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.id)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.generation != fork::generation() || !self.is_there() {
            return;
        }
        let Ok(_alone) = alone(&self.path) else { return }; // the next node here finds it stale
        if self.is_there() {
            let _ = fs::remove_file(&self.path); // gone already is as good
        }
    }
}

/// Locks the directory of a socket file, so that no other node finds a file stale, binds or removes one meanwhile.
/// Without the lock nothing is done: of two nodes that start there at once, one would remove the other's live socket.
fn alone(path: &Path) -> io::Result<Tracked<OwnedFd>> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let lock = Tracked::open(|| Ok(OwnedFd::from(fs::File::open(directory)?)))?;
    for _ in 0..LOCK_TRIES {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN) => thread::sleep(LOCK_PAUSE),
            locked => return locked.map(|()| lock).map_err(Into::into),
        }
    }
    let text = format!("another process, which may be stopped, holds the lock on {} for long", directory.display());
    Err(io::Error::other(text))
}

/// Removes a socket file on which no process listens.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        return Ok(()); // bind says what is wrong with anything else
    }
    match connect(&Address::Unix(path.into())) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Ok(()),
    }
}
