//! What is written to a client, by one task per connection.
//!
//! Called by `session` and `framed`. Not for: what is said.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A client that takes nothing for so long is cut off.
const STALL: Duration = Duration::from_secs(30);
/// Frames are gathered up to so many bytes before they are written.
const BATCH: usize = 64 * 1024;

/// Writes frames until both queues are closed or the client takes no more. Those of `control` go first: pings are answered
/// however many replies wait.
pub(super) async fn write_frames(
    write: &mut (impl AsyncWrite + Unpin),
    mut control: mpsc::Receiver<Vec<u8>>,
    mut replies: mpsc::Receiver<Vec<u8>>,
) {
    loop {
        let mut batch = tokio::select! {
            biased;
            Some(frame) = control.recv() => frame,
            Some(frame) = replies.recv() => frame,
            else => break,
        };
        while batch.len() < BATCH
            && let Ok(frame) = control.try_recv().or_else(|_| replies.try_recv())
        {
            batch.extend(frame);
        }
        if let Err(error) = write_all(write, &batch).await {
            tracing::debug!("a thrift client takes no more: {error}");
            return;
        }
    }
    // The client may be gone already.
    let _ = timeout(STALL, write.shutdown()).await;
}

/// Writes all of it. Errors when the client takes nothing for long.
pub(super) async fn write_all(write: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = timeout(STALL, write.write(rest)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = rest.get(written..).unwrap_or_default();
    }
    timeout(STALL, write.flush()).await?
}
