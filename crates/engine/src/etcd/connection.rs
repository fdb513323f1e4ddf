//! One connection to one endpoint of etcd: TCP, TLS, login, and requests that never wait longer than `ANSWER`.
use std::{error::Error, io, path::PathBuf, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::lookup_host,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

use crate::proto::etcd::{
    self as pb, auth_client::AuthClient, kv_client::KvClient, lease_client::LeaseClient, watch_client::WatchClient,
};
use crate::{port::stream::Stream, security::tls, socket::Address};

/// Name, TCP and TLS together: an endpoint that is gone holds nothing up for longer.
const CONNECT: Duration = Duration::from_secs(1);
/// Every answer comes within this time, or the next endpoint is tried.
const ANSWER: Duration = Duration::from_secs(2);
/// A list of all members comes in one message.
const LARGEST: usize = 256 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// etcd refuses: password, rights, certificates.
    Refused,
    /// Out of reach, for now.
    Away,
}

/// The reason for which etcd did not answer a request.
#[derive(Clone)]
pub struct Trouble {
    pub kind: TroubleKind,
    pub text: String,
    /// etcd has no such lease, or no longer.
    pub no_lease: bool,
}

impl Trouble {
    pub fn away(text: impl Into<String>) -> Self {
        Self { kind: TroubleKind::Away, text: text.into(), no_lease: false }
    }

    fn refused(text: String) -> Self {
        Self { kind: TroubleKind::Refused, ..Self::away(text) }
    }
}

/// PEM files. They are read at each connect, so that certificates may be renewed.
#[derive(Clone)]
pub struct TlsFiles {
    pub ca: PathBuf,
    /// Certificate and key of this client.
    pub pair: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// Reads the files into what a connection needs; the error names the file.
    pub fn read(&self) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(tls::roots(&self.ca)?);
        let mut config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(tls::certificates(certificate)?, tls::key(key)?)
                .map_err(|error| tls::said(certificate, &error))?,
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// The endpoints and credentials of etcd. Never print it: it holds a password.
pub struct Options {
    /// "host:port", "[v6]:port"
    pub endpoints: Vec<String>,
    pub user: Option<(String, String)>,
    pub tls: Option<TlsFiles>,
}

/// Adds to every request the token of the login, and asks for a member of etcd that has a leader.
#[derive(Clone)]
pub struct Headers {
    token: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        Ok(request)
    }
}

type Service = InterceptedService<Channel, Headers>;

/// A connection that never reconnects: a new one is a new `Connection`.
pub struct Connection {
    service: Service,
    endpoint: String,
    logged_in: bool,
}

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

impl Connection {
    pub async fn open(options: &Options, endpoint: &str) -> Result<Self, Trouble> {
        let mut opened = Some(TokioIo::new(match timeout(CONNECT, open(options, endpoint)).await {
            Ok(opened) => opened?,
            Err(_) => return Err(Trouble::away(format!("etcd at {endpoint} does not answer"))),
        }));
        let connector = service_fn(move |_: Uri| {
            let opened = opened.take();
            async move { opened.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
        });
        let uri = Endpoint::from_shared(format!("http://{endpoint}"));
        let uri = uri.map_err(|error| Trouble::away(format!("etcd at {endpoint}: {error}")))?;
        let channel = uri.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| broken(endpoint, &error))?;
        let mut headers = Headers { token: None };
        if let Some((name, password)) = &options.user {
            let request = pb::AuthenticateRequest { name: name.clone(), password: password.clone() };
            let mut auth = AuthClient::new(channel.clone());
            match timeout(ANSWER, auth.authenticate(request)).await {
                Err(_) => return Err(Trouble::away(format!("etcd at {endpoint} does not answer"))),
                Ok(Ok(answer)) => {
                    let token = MetadataValue::try_from(answer.into_inner().token);
                    headers.token = token.ok().map(|mut token| {
                        token.set_sensitive(true);
                        token
                    });
                }
                // This etcd has no passwords. Its administrator decides that; etcd's own client goes on too.
                Ok(Err(status)) if status.code() == Code::FailedPrecondition => {}
                Ok(Err(status)) => return Err(trouble(endpoint, &status, false)),
            }
        }
        let logged_in = headers.token.is_some();
        Ok(Self { service: InterceptedService::new(channel, headers), endpoint: endpoint.to_owned(), logged_in })
    }

    pub fn kv(&self) -> KvClient<Service> {
        KvClient::new(self.service.clone()).max_decoding_message_size(LARGEST)
    }

    pub fn lease(&self) -> LeaseClient<Service> {
        LeaseClient::new(self.service.clone())
    }

    pub fn watch(&self) -> WatchClient<Service> {
        WatchClient::new(self.service.clone()).max_decoding_message_size(LARGEST)
    }

    /// Waits for an answer, at most `ANSWER`.
    pub async fn answer<T>(&self, asked: impl Future<Output = Result<T, Status>>) -> Result<T, Trouble> {
        match timeout(ANSWER, asked).await {
            Ok(answer) => answer.map_err(|status| trouble(&self.endpoint, &status, self.logged_in)),
            Err(_) => Err(Trouble::away(format!("etcd at {} does not answer", self.endpoint))),
        }
    }

    /// Waits in the same way for the answer to a single request.
    pub async fn ask<T>(&self, asked: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Trouble> {
        Ok(self.answer(asked).await?.into_inner())
    }

    /// Returns a message of a stream; the end of a stream is an error too.
    pub fn message<T>(&self, message: Result<Option<T>, Status>) -> Result<T, Trouble> {
        match message {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(Trouble::away(format!("etcd at {} ended a stream", self.endpoint))),
            Err(status) => Err(trouble(&self.endpoint, &status, self.logged_in)),
        }
    }
}

/// Connects, and encrypts if the options say so.
async fn open(options: &Options, endpoint: &str) -> Result<Box<dyn Bytes>, Trouble> {
    let away = |error: io::Error| broken(endpoint, &error);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut connected = None;
    let addresses: Vec<_> = lookup_host(endpoint).await.map_err(away)?.collect();
    for address in &addresses {
        let address = Address::Tcp(address.to_string());
        // With several addresses, such as IPv6 and IPv4, one that does not answer leaves time for the next.
        match timeout(CONNECT / addresses.len() as u32, Stream::connect(&address)).await {
            Ok(Ok(stream)) => {
                connected = Some(stream);
                break;
            }
            Ok(Err(error)) => last = error,
            Err(late) => last = late.into(),
        }
    }
    let stream = connected.ok_or(last).map_err(away)?;
    let Some(files) = &options.tls else {
        return Ok(Box::new(stream));
    };
    let refused = |text: &dyn std::fmt::Display| Trouble::refused(format!("etcd at {endpoint}, TLS: {text}"));
    let config = files.read().map_err(|text| refused(&text))?;
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|error| refused(&error))?;
    let encrypted = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    Ok(Box::new(encrypted.map_err(away)?))
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// Returns the trouble that a status stands for.
fn trouble(endpoint: &str, status: &Status, logged_in: bool) -> Trouble {
    if let Some(cause) = status.source() {
        return broken(endpoint, cause);
    }
    let text = format!("etcd at {endpoint}: {}", status.message());
    match status.code() {
        Code::PermissionDenied | Code::InvalidArgument => Trouble::refused(text),
        // A restarted etcd does not know the token: the next connection brings a new one.
        Code::Unauthenticated if !logged_in => Trouble::refused(text),
        Code::NotFound => Trouble { no_lease: true, ..Trouble::away(text) },
        _ => Trouble::away(text),
    }
}

/// Returns the trouble of a broken connection; the reason is the innermost cause of the error.
fn broken(endpoint: &str, error: &(dyn Error + 'static)) -> Trouble {
    let (mut cause, mut text) = (Some(error), error.to_string());
    while let Some(error) = cause {
        text = error.to_string();
        match error.downcast_ref::<io::Error>() {
            Some(error) if is_tls(error) => return Trouble::refused(format!("etcd at {endpoint}, TLS: {error}")),
            _ => cause = error.source(),
        }
    }
    let text = text.split(" (os error").next().unwrap_or_default();
    Trouble::away(format!("etcd at {endpoint}: {text}"))
}
