//! What a scripted server does with one request, step by step.

use super::origin::Seen;
use super::{Sum, fields, pattern};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Response, Uri};
use std::future::poll_fn;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A piece that is written at once, at most.
const PIECE: usize = 64 * 1024;

/// The head of a request as the server saw it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// Scheme, authority and path, as the pseudo-headers say.
    pub uri: Uri,
    /// The header fields.
    pub headers: HeaderMap,
    /// Which connection it came on, counted from 0.
    pub connection: u64,
    /// Which request of this server it is, counted from 0.
    pub number: usize,
    /// When it came.
    pub at: Instant,
}

/// One step of an answer.
#[derive(Debug, Clone)]
pub enum Step {
    /// An interim response.
    Interim(u16, HeaderMap),
    /// The status and the header fields.
    Head(u16, HeaderMap),
    /// As [`Step::Head`], and the end: for gRPC, "trailers-only".
    Only(u16, HeaderMap),
    /// These bytes.
    Data(Bytes),
    /// So many bytes of [`pattern`].
    Pattern(usize),
    /// Reads the request to its end.
    Read,
    /// Reads the request to its end, at most so many bytes before each pause.
    ReadSlowly(usize, Duration),
    /// Sends each piece of the request as it comes, until its end.
    Echo,
    /// Sends the [`Sum`] of what was read of the request, as text.
    Sum,
    /// Trailers, and the end.
    Trailers(HeaderMap),
    /// The trailers of the request, and the end.
    EchoTrailers,
    /// The end, without trailers.
    End,
    /// RST_STREAM with this code.
    Reset(u32),
    /// Waits so long.
    Wait(Duration),
    /// Waits until the gate opens.
    Hold(Gate),
    /// Waits for the caller to cancel.
    Hang,
    /// GOAWAY with NO_ERROR, and then the end of the connection after all streams, this one too.
    Retire,
    /// GOAWAY with this code, and the end of the connection at once.
    Abort(u32),
}

/// The steps of an answer. What is missing at the end is done: headers with 200, and the end of the stream.
pub type Script = Vec<Step>;

/// Holds scripts until it is opened.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Gate(watch::Sender::new(false))
    }
}

impl Gate {
    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is open.
    pub async fn wait(&self) {
        // The sender is here: it cannot be gone.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

impl Step {
    /// 200 and these bytes.
    pub fn text(body: &str) -> Script {
        vec![Step::Head(200, HeaderMap::new()), Step::Data(Bytes::copy_from_slice(body.as_bytes())), Step::End]
    }

    /// The same, once the gate is open.
    pub fn held(gate: &Gate, body: &str) -> Script {
        [vec![Step::Hold(gate.clone())], Step::text(body)].concat()
    }

    /// This status, without a body.
    pub fn status(status: u16) -> Script {
        vec![Step::Only(status, HeaderMap::new())]
    }

    /// 200 at once, and the request comes back as it comes, with its trailers.
    pub fn echo() -> Script {
        vec![Step::Head(200, HeaderMap::new()), Step::Echo, Step::EchoTrailers]
    }

    /// Reads all, then says its length and checksum.
    pub fn sum() -> Script {
        vec![Step::Read, Step::Head(200, HeaderMap::new()), Step::Sum, Step::End]
    }

    /// So many bytes, with their [`Sum`] in the trailer `sum`.
    pub fn bytes(n: usize) -> Script {
        let sum = Sum::of(&pattern(0, n)).to_string();
        vec![Step::Head(200, HeaderMap::new()), Step::Pattern(n), Step::Trailers(fields(&[("sum", &sum)]))]
    }
}

/// How a script ended.
pub(crate) enum End {
    /// All steps were done.
    Done,
    /// The other side cancelled, with this code.
    Cancelled(u32),
    /// The connection broke, or the library refused.
    Broken(String),
    /// The connection is to end: by whom asked, and with which code (`None`: gracefully).
    GoAway(Option<u32>),
}

impl From<h2::Error> for End {
    fn from(error: h2::Error) -> End {
        match error.reason() {
            Some(reason) if error.is_reset() => End::Cancelled(reason.into()),
            _ => End::Broken(error.to_string()),
        }
    }
}

/// One request under way.
pub(crate) struct Performance {
    respond: SendResponse<Bytes>,
    request: RecvStream,
    sending: Option<SendStream<Bytes>>,
    finished: bool,
    /// What the caller sent.
    pub(crate) seen: Seen,
}

impl Performance {
    pub(crate) fn new(respond: SendResponse<Bytes>, request: RecvStream, seen: Seen) -> Performance {
        Performance { respond, request, sending: None, finished: false, seen }
    }

    /// Does all steps.
    pub(crate) async fn play(&mut self, script: Script) -> End {
        for step in script {
            match step {
                Step::Retire => return End::GoAway(None),
                Step::Abort(code) => return End::GoAway(Some(code)),
                step => {
                    if let Err(end) = self.step(step).await {
                        return end;
                    }
                }
            }
        }
        if !self.finished
            && let Err(end) = self.send(Bytes::new(), true).await
        {
            return end;
        }
        End::Done
    }

    async fn step(&mut self, step: Step) -> Result<(), End> {
        match step {
            Step::Interim(status, fields) => self.respond.send_informational(head(status, fields))?,
            Step::Head(status, fields) => self.head(status, fields, false)?,
            Step::Only(status, fields) => self.head(status, fields, true)?,
            Step::Data(bytes) => self.send(bytes, false).await?,
            Step::Pattern(n) => {
                for from in (0..n).step_by(PIECE) {
                    self.send(pattern(from, PIECE.min(n - from)), false).await?;
                }
            }
            Step::Read => self.read(usize::MAX, Duration::ZERO).await?,
            Step::ReadSlowly(bytes, pause) => self.read(bytes, pause).await?,
            Step::Echo => {
                while let Some(piece) = self.next().await? {
                    self.send(piece, false).await?;
                }
                self.trailers().await?;
            }
            Step::Sum => self.send(self.seen.sum.to_string().into(), false).await?,
            Step::Trailers(fields) => self.end(fields).await?,
            Step::EchoTrailers => self.end(self.seen.trailers.clone()).await?,
            Step::End => self.send(Bytes::new(), true).await?,
            Step::Reset(code) => self.reset(code),
            Step::Wait(pause) => self.unless_cancelled(tokio::time::sleep(pause)).await?,
            Step::Hold(gate) => self.unless_cancelled(gate.wait()).await?,
            Step::Hang => self.unless_cancelled(std::future::pending()).await?,
            Step::Retire | Step::Abort(_) => {}
        }
        Ok(())
    }

    fn head(&mut self, status: u16, fields: HeaderMap, end: bool) -> Result<(), End> {
        self.finished |= end;
        self.sending = Some(self.respond.send_response(head(status, fields), end)?);
        Ok(())
    }

    async fn send(&mut self, mut bytes: Bytes, end: bool) -> Result<(), End> {
        if self.sending.is_none() {
            self.head(200, HeaderMap::new(), false)?;
        }
        let Some(stream) = &mut self.sending else { return Ok(()) };
        self.finished |= end;
        send_all(stream, &mut bytes, end).await
    }

    async fn end(&mut self, fields: HeaderMap) -> Result<(), End> {
        if fields.is_empty() {
            return self.send(Bytes::new(), true).await;
        }
        self.finished = true;
        if let Some(stream) = &mut self.sending {
            stream.send_trailers(fields)?;
        }
        Ok(())
    }

    fn reset(&mut self, code: u32) {
        self.finished = true;
        match &mut self.sending {
            Some(stream) => stream.send_reset(Reason::from(code)),
            None => self.respond.send_reset(Reason::from(code)),
        }
    }

    /// The next piece of the request, its window given back.
    async fn next(&mut self) -> Result<Option<Bytes>, End> {
        let Some(piece) = self.request.data().await.transpose()? else { return Ok(None) };
        // A stream that is gone needs no window.
        let _ = self.request.flow_control().release_capacity(piece.len());
        self.seen.sum.add(&piece);
        Ok(Some(piece))
    }

    async fn read(&mut self, at_once: usize, pause: Duration) -> Result<(), End> {
        let mut since_pause = 0;
        while let Some(piece) = self.request.data().await.transpose()? {
            self.seen.sum.add(&piece);
            since_pause += piece.len();
            if since_pause >= at_once {
                since_pause = 0;
                self.unless_cancelled(tokio::time::sleep(pause)).await?;
            }
            let _ = self.request.flow_control().release_capacity(piece.len());
        }
        self.trailers().await
    }

    async fn trailers(&mut self) -> Result<(), End> {
        self.seen.trailers = self.request.trailers().await?.unwrap_or_default();
        self.seen.complete = true;
        Ok(())
    }

    /// Waits for this, or for the other side to cancel.
    async fn unless_cancelled(&mut self, awaited: impl Future<Output = ()>) -> Result<(), End> {
        let cancelled = poll_fn(|cx| match &mut self.sending {
            Some(stream) => stream.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        tokio::select! {
            () = awaited => Ok(()),
            reason = cancelled => Err(reason.map_or_else(End::from, |reason| End::Cancelled(reason.into()))),
        }
    }
}

fn head(status: u16, fields: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status.try_into().expect("a status");
    *response.headers_mut() = fields;
    response
}

/// Sends all bytes as the windows allow.
pub(crate) async fn send_all(stream: &mut SendStream<Bytes>, bytes: &mut Bytes, end: bool) -> Result<(), End> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = match poll_fn(|cx| stream.poll_capacity(cx)).await.transpose()? {
            Some(room) => room,
            None => return Err(closed(stream).await),
        };
        if room > 0 {
            let piece = bytes.split_to(room.min(bytes.len()));
            stream.send_data(piece, end && bytes.is_empty())?;
            if bytes.is_empty() && end {
                return Ok(());
            }
        }
    }
    if end {
        stream.send_data(Bytes::new(), true)?;
    }
    Ok(())
}

/// Why there is no window any more.
async fn closed(stream: &mut SendStream<Bytes>) -> End {
    match poll_fn(|cx| stream.poll_reset(cx)).await {
        Ok(reason) => End::Cancelled(reason.into()),
        Err(error) => End::from(error),
    }
}
