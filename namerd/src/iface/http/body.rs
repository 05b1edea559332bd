//! Request bodies: read whole, within bounds of size and time (namerd reference §2.1).
//!
//! Called by routes that take a body. Not for: what the bytes mean.

use super::answer::Refusal;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::error::Error;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;

/// A larger body is refused with 413.
pub(super) const MAX_BODY: usize = 5 << 20;
/// A form, or a delegation request, holds one question, which is kept for as long as it is answered; a larger one is refused
/// with 413.
pub(super) const MAX_FORM: usize = 64 << 10;
/// For a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Bodies up to this size need no room: as many as there are connections fit.
const SMALL: usize = 64 << 10;
/// Bytes of larger bodies that are being read, in the whole process.
const MOST: usize = 256 << 20;
/// And for one client address, which cannot keep the others from writing by sending slowly.
const MOST_OF_CLIENT: usize = 16 << 20;

static ROOM: Room = Room::new();

/// Bytes that are taken, by client address.
struct Room(Mutex<BTreeMap<IpAddr, usize>>);

/// What one body takes of the room, until it is dropped.
struct Place<'a> {
    room: &'a Room,
    client: IpAddr,
    bytes: usize,
}

impl Room {
    const fn new() -> Room {
        Room(Mutex::new(BTreeMap::new()))
    }

    /// The place of a body of this client, which takes nothing yet.
    fn place(&self, client: IpAddr) -> Place<'_> {
        Place { room: self, client: client.to_canonical(), bytes: 0 }
    }
}

impl Place<'_> {
    /// Takes what a body of so many bytes needs; false when there is no room for it.
    fn grow(&mut self, length: usize) -> bool {
        if length <= SMALL {
            return true;
        }
        let more = length.saturating_sub(self.bytes);
        let mut clients = self.room.0.lock();
        let (all, own) = (clients.values().sum::<usize>(), clients.get(&self.client).copied().unwrap_or_default());
        if all + more > MOST || own + more > MOST_OF_CLIENT {
            return false;
        }
        clients.insert(self.client, own + more);
        self.bytes += more;
        true
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut clients = self.room.0.lock();
        if let Some(own) = clients.get_mut(&self.client) {
            *own = own.saturating_sub(self.bytes);
            if *own == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// All of a body of at most `most` bytes that `client` sends, however it is framed. Errors with 413, 400, 408, and 503 when
/// there is no room.
pub(super) async fn read(body: Incoming, most: usize, client: IpAddr) -> Result<Bytes, Refusal> {
    let too_large = || {
        let text = format!("the body has more than {most} bytes; nothing was changed");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text).closing()
    };
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    match timeout(BODY_TIMEOUT, gather(Limited::new(body, most), ROOM.place(client))).await {
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
async fn gather(body: Limited<Incoming>, mut place: Place<'_>) -> Result<Option<Bytes>, Box<dyn Error + Send + Sync>> {
    let mut body = pin!(body);
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if !place.grow(all.len() + data.len()) {
            return Ok(None);
        }
        all.extend_from_slice(&data);
    }
    Ok(Some(all.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_does_not_take_the_room_of_others() {
        let room = Room::new();
        let client = |last: u8| IpAddr::from([10, 0, 0, last]);
        let mut first = room.place(client(1));
        assert!(first.grow(MOST_OF_CLIENT - 1) && first.grow(MOST_OF_CLIENT));
        let mut second = room.place("::ffff:10.0.0.1".parse().expect("an address"));
        assert!(!second.grow(SMALL + 1), "the same host");
        assert!(second.grow(SMALL), "a small body needs no room");
        assert!(room.place(client(2)).grow(MAX_BODY));
        drop((first, second));
        assert!(room.0.lock().is_empty());
        let mut all: Vec<Place<'_>> = (0..16).map(|last| room.place(client(last))).collect();
        assert!(all.iter_mut().all(|place| place.grow(MOST_OF_CLIENT)));
        assert!(!room.place(client(99)).grow(SMALL + 1), "all of it is taken");
        all.pop();
        assert!(room.place(client(99)).grow(MOST_OF_CLIENT));
    }
}
