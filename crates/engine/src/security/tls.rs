//! The certificates that a node shows and trusts. They are read from files, and again when those have changed.
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

use crate::sync::Mutex;

/// PEM files, and whether clients must show a certificate too.
#[derive(Clone)]
pub struct Files {
    /// The node's certificate, and those between it and the authority.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// The authorities that sign the certificates of all nodes, and of clients.
    pub ca: PathBuf,
    pub mutual: bool,
}

/// Everything a handshake needs. No sessions are resumed, so that each connection shows certificates that are good now;
/// nothing here has a lock, so that forked children may share it.
pub struct Configs {
    pub server: Arc<ServerConfig>,
    pub resp: Arc<ClientConfig>,
    pub grpc: Arc<ClientConfig>,
}

/// The inode, size and time of change of a file, which show that it is another one.
type Stamp = Option<(u64, u64, i64, i64)>;

struct State {
    configs: Arc<Configs>,
    /// The files that `configs` came from, or that proved to be broken.
    read: [Stamp; 3],
    seen: [Stamp; 3],
}

pub struct Tls {
    files: Files,
    first: Arc<Configs>,
    state: Mutex<State>,
}

impl Tls {
    /// Reads the files. The error says what is wrong with which.
    pub fn new(files: Files) -> Result<Self, String> {
        let read = files.stamps();
        let first = Arc::new(files.load()?);
        Ok(Self::with(files, first, read))
    }

    fn with(files: Files, first: Arc<Configs>, read: [Stamp; 3]) -> Self {
        let state = State { configs: first.clone(), read, seen: read };
        Self { files, first, state: Mutex::new(state) }
    }

    /// Returns the same for a forked child, in which a lost thread may hold the lock: the files as they are now or, if
    /// they are broken, as they were first.
    pub fn renewed(&self) -> Self {
        Self::new(self.files.clone()).unwrap_or_else(|_| Self::with(self.files.clone(), self.first.clone(), [None; 3]))
    }

    pub fn configs(&self) -> Arc<Configs> {
        self.state.lock().configs.clone()
    }

    /// Returns whether the files have changed and new ones are in use from now on. They are read once two calls have
    /// found them alike, as they are not all written at once. The error, returned once, says what is wrong with them;
    /// the old ones stay in use.
    pub fn reload(&self) -> Result<bool, String> {
        let now = self.files.stamps();
        {
            let mut state = self.state.lock();
            if now == state.read {
                return Ok(false);
            }
            if now != state.seen {
                state.seen = now;
                return Ok(false);
            }
            state.read = now;
        }
        let configs = Arc::new(self.files.load()?);
        self.state.lock().configs = configs;
        Ok(true)
    }
}

/// Returns the name that the certificate at an address must have: its host.
pub fn server_name(address: &str) -> io::Result<ServerName<'static>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(host).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

impl Files {
    fn stamps(&self) -> [Stamp; 3] {
        [&self.cert, &self.key, &self.ca].map(|path| {
            let file = fs::metadata(path).ok()?;
            Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
        })
    }

    fn load(&self) -> Result<Configs, String> {
        let chain = certificates(&self.cert)?;
        let key = key(&self.key)?;
        let (roots, provider) = (Arc::new(roots(&self.ca)?), Arc::new(ring::default_provider()));
        let mine = |error: rustls::Error| said(&self.cert, &format!("with {}: {error}", self.key.display()));
        let client = |protocols: Vec<Vec<u8>>| {
            let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
                .build()
                .map_err(|error| said(&self.ca, &error))?;
            let mut config = ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .map_err(mine)?
                .with_webpki_verifier(verifier)
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(mine)?;
            config.resumption = Resumption::disabled();
            config.alpn_protocols = protocols;
            Ok::<_, String>(Arc::new(config))
        };
        Ok(Configs {
            server: Arc::new(self.server(&roots, provider.clone(), chain.clone(), key.clone_key())?),
            resp: client(Vec::new())?,
            grpc: client(vec![b"h2".to_vec()])?,
        })
    }

    fn server(
        &self,
        roots: &Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<ServerConfig, String> {
        let mine = |error: rustls::Error| said(&self.cert, &format!("with {}: {error}", self.key.display()));
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(mine)?;
        let builder = if self.mutual {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| said(&self.ca, &error))?)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(chain, key).map_err(mine)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        // A client that offers both is a browser or the like; gRPC clients offer h2 alone.
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        Ok(config)
    }
}

/// Returns the certificates in a PEM file, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|error| said(path, &error))?.collect();
    match all {
        Ok(all) if all.is_empty() => Err(said(path, &"there is no certificate in it")),
        all => all.map_err(|error| said(path, &error)),
    }
}

/// Returns the certificates in a PEM file as authorities.
pub fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        roots.add(authority).map_err(|error| said(path, &error))?;
    }
    Ok(roots)
}

/// Returns the private key in a PEM file.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| said(path, &error))
}

/// Returns what is wrong with a file, after its name.
pub fn said(path: &Path, what: &dyn std::fmt::Display) -> String {
    format!("{}: {what}", path.display())
}
