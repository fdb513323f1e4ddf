//! HTTP/1.1: one request per connection, refused.
use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::stream::Stream;

const HEAD: usize = 8 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);

/// The methods of HTTP/1.1, as far as their first four bytes tell.
pub fn is_method(first: &[u8; 4]) -> bool {
    [
        b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"TRAC", b"CONN",
    ]
    .contains(&first)
}

/// Reads the request's head, so that closing does not cut the answer off, and refuses it.
pub async fn serve(mut stream: Stream, mut head: Vec<u8>) -> io::Result<()> {
    let whole = async {
        while head.len() < HEAD && !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    timeout(PATIENCE, whole).await.unwrap_or(Ok(()))?;
    stream
        .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await?;
    stream.shutdown().await
}
