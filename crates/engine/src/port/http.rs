//! HTTP/1.1 for probes, Prometheus and people: `/healthz`, `/readyz`, `/metrics`, `/` and `/status.json`; one request per
//! connection, without a body.
//!
//! Health, readiness and the page are answered here at once; the node renders the metrics, and what the page shows.
use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout_at},
};

use super::{page, stream::Stream};
use crate::{
    call::{ClientRequest, Incoming},
    events::{Events, Scrape},
    security::{Origin, Security},
    sync::Mutex,
};

const HEAD: usize = 8 * 1024;
const HEADERS: usize = 64;
/// A client's further bytes are read for this long: closing over unread bytes would lose the answer.
const LINGER: Duration = Duration::from_secs(1);

/// What /readyz says of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    Joining,
    Ready,
    Leaving,
}

/// The state of a node, as HTTP reports it.
pub struct Status {
    state: watch::Sender<State>,
    names: Mutex<Vec<String>>,
    events: Arc<Events>,
    security: Arc<Security>,
    /// Metrics are rendered one at a time, so that many scrapes do not keep the node from its peers.
    scraping: Semaphore,
}

impl Status {
    pub fn new(events: Arc<Events>, security: Arc<Security>) -> Self {
        Self {
            state: watch::Sender::new(State::Joining),
            names: Mutex::default(),
            events,
            security,
            scraping: Semaphore::new(1),
        }
    }

    /// Notes that the node has joined, unless it is leaving.
    pub fn joined(&self) {
        self.state.send_if_modified(|state| {
            let joins = *state == State::Joining;
            if joins {
                *state = State::Ready;
            }
            joins
        });
    }

    /// Notes that the node takes no more work.
    pub fn leaving(&self) {
        self.state.send_replace(State::Leaving);
    }

    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Sets the names that a request may use for this node, beside IP addresses and localhost.
    pub fn answer_to(&self, names: Vec<String>) {
        *self.names.lock() = names;
    }

    fn is_us(&self, host: &str) -> bool {
        let name = name_of(host);
        name.parse::<IpAddr>().is_ok()
            || is_bracketed(name)
            || name.eq_ignore_ascii_case("localhost")
            || self.names.lock().iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    async fn metrics(&self) -> Option<String> {
        let _turn = self.scraping.acquire().await.ok()?;
        let (scrape, answer) = Scrape::new();
        self.events.scrape(scrape);
        answer.await.ok()
    }

    /// Returns what this node and the other members know, as JSON, or why there is none.
    async fn members(&self) -> Result<String, String> {
        let asked = ClientRequest { command: "kc.status", ..ClientRequest::default() };
        let (call, answer) = Incoming::client(asked);
        self.events.call(call);
        let reply = answer.await.map_err(|_| "the node is closed".to_owned())?.map_err(|refused| refused.text)?;
        let text = reply.values.into_iter().next().flatten();
        text.and_then(|text| String::from_utf8(text.into()).ok()).ok_or_else(|| "there is nothing".to_owned())
    }
}

/// Returns a Host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_bracketed(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok())
}

/// Returns whether a method of HTTP/1.1 begins with these bytes.
pub fn is_method(first: &[u8; 4]) -> bool {
    [b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"TRAC", b"CONN"].contains(&first)
}

/// Answers one request, whose first bytes are in `head`, and closes. The client has `patience` for its whole request,
/// and as long to take the answer.
pub async fn serve(mut stream: Stream, mut head: Vec<u8>, status: &Status, patience: Duration) -> io::Result<()> {
    let (found, head_only) = find(&mut stream, &mut head, status, Instant::now() + patience).await?;
    timeout_at(Instant::now() + patience, answer(&mut stream, &found, head_only)).await??;
    let mut rest = [0; 1024];
    let until = Instant::now() + LINGER;
    while let Ok(Ok(1..)) = timeout_at(until, stream.read(&mut rest)).await {}
    Ok(())
}

/// Returns the answer to the request, and whether only its head is asked for.
async fn find(
    stream: &mut Stream,
    head: &mut Vec<u8>,
    status: &Status,
    deadline: Instant,
) -> io::Result<(Answer, bool)> {
    let end = match timeout_at(deadline, read_head(stream, head)).await {
        Ok(end) => end?,
        Err(_) => return Ok((Answer::text(408, "the request took too long"), false)),
    };
    let Some(end) = end else {
        return Ok((Answer::text(431, "the head has more than 8 KiB"), false));
    };
    let probes = [&b"GET /healthz"[..], b"GET /readyz", b"HEAD /healthz", b"HEAD /readyz"]; // they need no password
    if !probes.iter().any(|probe| head.starts_with(probe)) {
        sleep(status.security.pause(&stream.origin().0)).await;
    }
    let (page, is_head) = match parse(&head[..end], status, &stream.origin()) {
        Ok(asked) => asked,
        Err(refusal) => return Ok((refusal, head.starts_with(b"HEAD "))),
    };
    let found = match page {
        Page::Health => Answer::text(200, "ok"),
        Page::Readiness => match *status.state.borrow() {
            State::Joining => Answer::text(503, "joining"),
            State::Ready => Answer::text(200, "ready"),
            _ => Answer::text(503, "leaving"),
        },
        Page::Metrics => match timeout_at(deadline, status.metrics()).await {
            Ok(Some(body)) => Answer { kind: "text/plain; version=0.0.4; charset=utf-8", ..Answer::new(200, body) },
            Ok(None) => Answer::text(503, "there are no metrics"),
            Err(_) => Answer::text(503, "the node is too busy to render its metrics"),
        },
        Page::Home => {
            let kind = "text/html; charset=utf-8";
            Answer { kind, headers: &page::HEADERS, ..Answer::new(200, page::PAGE.to_owned()) }
        }
        Page::Members => match timeout_at(deadline, status.members()).await {
            Ok(Ok(body)) => Answer { kind: "application/json", ..Answer::new(200, body) },
            Ok(Err(why)) => Answer::text(503, &why),
            Err(_) => Answer::text(503, "the node is too busy to answer"),
        },
    };
    Ok((found, is_head))
}

/// Reads to the end of the head, and returns where that is; None if the head is too long.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S, head: &mut Vec<u8>) -> io::Result<Option<usize>> {
    loop {
        let seen = &head[..head.len().min(HEAD)];
        if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(Some(end + 4));
        }
        if head.len() >= HEAD {
            return Ok(None);
        }
        if stream.read_buf(head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

enum Page {
    Health,
    Readiness,
    Metrics,
    Home,
    Members,
}

/// Returns the page, and whether only its head is asked for; or the refusal.
fn parse(head: &[u8], status: &Status, origin: &Origin) -> Result<(Page, bool), Answer> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) if request.version == Some(1) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Answer::text(431, "there are too many headers")),
        _ => return Err(Answer::text(400, "this is no request of HTTP/1.1")),
    }
    let is = |header: &&httparse::Header<'_>, name: &str| header.name.eq_ignore_ascii_case(name);
    let mut hosts = request.headers.iter().filter(|header| is(header, "host"));
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Answer::text(400, "a request has one Host"));
    };
    let host = std::str::from_utf8(host.value).unwrap_or_default();
    if !status.is_us(host) {
        return Err(Answer::text(421, "this node has no such name: use an IP address, or the name it advertises"));
    }
    let body = request
        .headers
        .iter()
        .any(|header| is(&header, "transfer-encoding") || (is(&header, "content-length") && header.value != b"0"));
    let page = match request.path.unwrap_or_default().split('?').next().unwrap_or_default() {
        "/healthz" => Page::Health,
        "/readyz" => Page::Readiness,
        "/metrics" => Page::Metrics,
        "/" => Page::Home,
        "/status.json" => Page::Members,
        _ => return Err(Answer::text(404, "there are /, /status.json, /healthz, /readyz and /metrics")),
    };
    if status.security.password.is_some() && !matches!(page, Page::Health | Page::Readiness) {
        let given = request.headers.iter().find(|header| is(header, "authorization")).map(|header| header.value);
        if given.is_none() && !matches!(page, Page::Metrics) {
            // A browser asks without a password first; that is nothing for the log.
            return Err(Answer::text(401, "a password is required"));
        }
        status.security.admits(given, &origin.0).map_err(|text| Answer::text(401, text))?;
    }
    match request.method {
        _ if body => Err(Answer::text(400, "a request has no body")),
        Some("GET") => Ok((page, false)),
        Some("HEAD") => Ok((page, true)),
        _ => Err(Answer::text(405, "use GET or HEAD")),
    }
}

struct Answer {
    status: u16,
    kind: &'static str,
    /// Further headers, each with the end of its line.
    headers: &'static str,
    body: String,
}

impl Answer {
    fn new(status: u16, body: String) -> Self {
        let headers = match status {
            401 => "WWW-Authenticate: Bearer\r\nWWW-Authenticate: Basic realm=\"kamacache\"\r\n",
            405 => "Allow: GET, HEAD\r\n",
            _ => "",
        };
        Self { status, kind: "text/plain; charset=utf-8", headers, body }
    }

    fn text(status: u16, text: &str) -> Self {
        Self::new(status, format!("{text}\n"))
    }

    fn reason(&self) -> &'static str {
        match self.status {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            421 => "Misdirected Request",
            431 => "Request Header Fields Too Large",
            _ => "Service Unavailable",
        }
    }
}

/// Writes the answer, without its body if only the head is asked for, and no more after it.
async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, answer: &Answer, head_only: bool) -> io::Result<()> {
    let mut out = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}Cache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\n\
         Connection: close\r\n\r\n",
        answer.status,
        answer.reason(),
        answer.kind,
        answer.body.len(),
        answer.headers,
    );
    if !head_only {
        out.push_str(&answer.body);
    }
    stream.write_all(out.as_bytes()).await?;
    stream.shutdown().await
}
