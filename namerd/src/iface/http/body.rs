//! Request bodies: read whole, within bounds of size and time (namerd reference §2.1).
//!
//! Called by routes that take a body. Not for: what the bytes mean.

use super::answer::Refusal;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use std::error::Error;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// A larger body is refused with 413.
pub(super) const MAX_BODY: usize = 5 << 20;
/// A form holds one question, which is kept for as long as it is answered; a larger one is refused with 413.
pub(super) const MAX_FORM: usize = 64 << 10;
/// For a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of bodies that are being read, in the whole process.
static ROOM: Semaphore = Semaphore::const_new(256 << 20);

/// All of a body of at most `most` bytes, however it is framed. Errors with 413, 400 and 408.
pub(super) async fn read(body: Incoming, most: usize) -> Result<Bytes, Refusal> {
    let too_large = || {
        let text = format!("the body has more than {most} bytes; nothing was changed");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text).closing()
    };
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    match timeout(BODY_TIMEOUT, gather(Limited::new(body, most))).await {
        Ok(Ok(Some(all))) => Ok(all),
        Ok(Ok(None)) => {
            let text = "too many large bodies are being read at this moment; nothing was changed: try again";
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).closing())
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => {
            let text = format!("the body is incomplete or malformed: {error}; nothing was changed");
            Err(Refusal::new(StatusCode::BAD_REQUEST, text).closing())
        }
        Err(_) => {
            let text = format!("the body did not arrive within {BODY_TIMEOUT:?}; nothing was changed");
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, text).closing())
        }
    }
}

/// The whole body; None when there is no room for it.
async fn gather(body: Limited<Incoming>) -> Result<Option<Bytes>, Box<dyn Error + Send + Sync>> {
    let mut body = pin!(body);
    let (mut all, mut places) = (BytesMut::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let Ok(place) = ROOM.try_acquire_many(u32::try_from(data.len()).unwrap_or(u32::MAX)) else { return Ok(None) };
        places.push(place);
        all.extend_from_slice(&data);
    }
    Ok(Some(all.freeze()))
}
