//! The first bytes of a connection: HTTP/2 by prior knowledge, or something else.
//!
//! Called by the interface.

use super::filter::PREFACE;
use bytes::{Bytes, BytesMut};
use namers::remote::peers::Io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const OTHER: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 59\r\n\r\nThis port speaks gRPC (io.l5d.mesh), which needs HTTP/2.  \n";

/// Reads until it is certain that the client speaks HTTP/2; another one is told so.
pub(super) async fn greet(mut io: Box<dyn Io>) -> Result<(Box<dyn Io>, Bytes), String> {
    let mut begun = BytesMut::with_capacity(PREFACE.len());
    while begun.len() < PREFACE.len() {
        let count = io.read_buf(&mut begun).await.map_err(|error| error.to_string())?;
        let known = begun.len().min(PREFACE.len());
        if count == 0 || begun[..known] != PREFACE[..known] {
            let _ = io.write_all(OTHER).await;
            return Err("the client does not speak HTTP/2".into());
        }
    }
    Ok((io, begun.freeze()))
}
