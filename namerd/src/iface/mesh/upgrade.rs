//! The first bytes of a connection: HTTP/2 by prior knowledge, or something else.
//!
//! Called by the interface.

use super::filter::PREFACE;
use bytes::{Bytes, BytesMut};
use namers::remote::peers::Io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const OTHER: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 59\r\n\r\nThis port speaks gRPC (io.l5d.mesh), which needs HTTP/2.  \n";

const NO_HTTP2: &str = "the client does not speak HTTP/2";
/// What such a client sends is read so far, so that it can read why it is refused.
const MAX_REFUSED: u64 = 64 * 1024;

/// Reads until it is certain that the client speaks HTTP/2; another one is told so.
pub(super) async fn greet(mut io: Box<dyn Io>) -> Result<(Box<dyn Io>, Bytes), String> {
    let mut begun = BytesMut::with_capacity(PREFACE.len());
    while begun.len() < PREFACE.len() {
        let count = io.read_buf(&mut begun).await.map_err(|error| error.to_string())?;
        let known = begun.len().min(PREFACE.len());
        if count == 0 || begun[..known] != PREFACE[..known] {
            return Err(refuse(io).await.err().map_or_else(|| NO_HTTP2.into(), |error| format!("{NO_HTTP2}: {error}")));
        }
    }
    Ok((io, begun.freeze()))
}

async fn refuse(mut io: Box<dyn Io>) -> std::io::Result<u64> {
    io.write_all(OTHER).await?;
    io.shutdown().await?;
    tokio::io::copy(&mut io.take(MAX_REFUSED), &mut tokio::io::sink()).await
}
