//! All that a stranger can send to the port: RESP, HTTP/1.1, HTTP/2 with gRPC, TLS, or none of them. Each input is one
//! connection to a server that is there.
use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use kamacache_engine::{call::Refusal, events::Event, security::Security, transport::Transport};

const MESSAGE: usize = 64 << 10;
/// The server closes a connection sooner, whatever it got.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns where the server listens. It answers what memory does not have, as the node's Python would.
fn server() -> &'static PathBuf {
    static SERVER: OnceLock<PathBuf> = OnceLock::new();
    SERVER.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("kamacache-fuzz-{}.sock", std::process::id()));
        let transport = Transport::new(MESSAGE, MESSAGE, PATIENCE / 5, Arc::new(Security::default()), super::groups());
        transport
            .listen(&format!("unix:{}", path.display()), PATIENCE, None)
            .expect("a socket in the directory for temporary files");
        transport.status().expect("a life").joined();
        thread::spawn(move || {
            while let Ok(event) = transport.next_event(Duration::from_secs(3600)) {
                match event {
                    Some(Event::Call(mut call)) => drop(call.fail(Refusal::Load, "ValueError")),
                    Some(Event::Scrape(scrape)) => scrape.reply("# no metrics\n".into()),
                    _ => {}
                }
            }
        });
        path
    })
}

pub fn run(input: &[u8]) {
    let mut stream = UnixStream::connect(server()).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    // A server that has closed already breaks these two off.
    let _ = stream.write_all(input);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = [0; 4096];
    loop {
        match stream.read(&mut answer) {
            Ok(1..) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the connection is still open {PATIENCE:?} after its last byte");
            }
            Ok(0) | Err(_) => return,
        }
    }
}
