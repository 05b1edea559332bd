//! Reading HTTP/1 messages from a socket: what clients and backends of the harness share.
//!
//! Lenient on purpose: the harness shows what arrived, stories judge it.

use crate::Headers;
use std::io::{self, BufRead, BufReader, Read};
use std::net::TcpStream;

/// What was read, byte by byte, is told to this function.
type Tap = Box<dyn Fn(&[u8]) + Send>;

/// A socket whose bytes can be watched.
pub(crate) struct Tapped {
    socket: TcpStream,
    tap: Option<Tap>,
}

impl Read for Tapped {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.socket.read(buf)?;
        if let Some(tap) = &self.tap {
            tap(&buf[..n]);
        }
        Ok(n)
    }
}

/// The reading half of a connection.
pub(crate) struct Reader(BufReader<Tapped>);

/// A body and the fields after it.
pub(crate) type Body = (Vec<u8>, Headers);

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Reader {
    pub(crate) fn new(socket: TcpStream, tap: Option<Tap>) -> Reader {
        Reader(BufReader::with_capacity(16 * 1024, Tapped { socket, tap }))
    }

    /// The socket, to change its options.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.0.get_ref().socket
    }

    /// True when the peer has closed and nothing is left to read. Waits for the read time-out of the socket at most.
    pub(crate) fn at_end(&mut self) -> bool {
        match self.0.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    /// One line without its end; None at the end of the stream.
    pub(crate) fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.0.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }

    /// Field lines up to the empty line.
    pub(crate) fn fields(&mut self) -> io::Result<Headers> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken(format!("no header: {line:?}")))?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The body that `headers` announce; without an announcement it is empty, or lasts `until_close`.
    pub(crate) fn body(&mut self, headers: &Headers, until_close: bool) -> io::Result<Body> {
        if crate::find(headers, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return self.chunks();
        }
        let mut body = Vec::new();
        if let Some(length) = crate::find(headers, "content-length") {
            let length: u64 = length.parse().map_err(|_| broken(format!("content-length {length:?}")))?;
            let n = self.0.by_ref().take(length).read_to_end(&mut body)?;
            if (n as u64) < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        } else if until_close {
            self.0.read_to_end(&mut body)?;
        }
        Ok((body, Vec::new()))
    }

    fn chunks(&mut self) -> io::Result<Body> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(digits, 16).map_err(|_| broken(format!("chunk size {line:?}")))?;
            if size == 0 {
                return Ok((body, self.fields()?));
            }
            if (self.0.by_ref().take(size).read_to_end(&mut body)? as u64) < size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.line()?.as_deref() != Some("") {
                return Err(broken("no line end after a chunk"));
            }
        }
    }
}
