//! A connection to a server: DNS, TCP, a tunnel through a proxy, TLS.
//!
//! Called by [`crate::http`], which bounds the time. Not for: HTTP but for the head of `CONNECT`.

use crate::proxy::Proxy;
use crate::url::Url;
use base64::Engine as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tls::{ClientFiles, ClientTls};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// The head of a proxy's answer may have this many bytes.
const PROXY_HEAD: usize = 8 * 1024;

/// Bytes to and from a server, over TLS or not.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection on which the first request for `url` can be written.
pub(crate) async fn open(
    url: &Url,
    proxy: Option<&Proxy>,
    files: Option<&Arc<ClientFiles>>,
) -> Result<Box<dyn Io>, String> {
    let (mut socket, ip) = match proxy {
        Some(proxy) => dial(&proxy.host, proxy.port).await.map_err(|why| format!("proxy: {why}"))?,
        None => dial(&url.host, url.port).await?,
    };
    if !url.secure {
        return Ok(Box::new(socket));
    }
    let Some(files) = files else { return Err("TLS is not set up".into()) };
    if let Some(proxy) = proxy {
        tunnel(&mut socket, url, proxy).await.map_err(|why| format!("proxy {}:{}: {why}", proxy.host, proxy.port))?;
    }
    let name = ClientTls::new(files.clone(), Some(&url.host));
    let secured = name.connect(socket, ip, Some(&url.host)).await;
    Ok(Box::new(secured.map_err(|error| format!("TLS with {}: {error}", url.authority))?))
}

async fn dial(host: &str, port: u16) -> Result<(TcpStream, IpAddr), String> {
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| format!("{host} is not found: {error}"))?;
    let addresses: Vec<SocketAddr> = found.collect();
    let mut tried = Vec::new();
    for address in &addresses {
        match TcpStream::connect(address).await {
            Ok(socket) => {
                // Only a matter of latency.
                let _ = socket.set_nodelay(true);
                return Ok((socket, address.ip()));
            }
            Err(error) => tried.push(format!("{address}: {error}")),
        }
    }
    match tried.is_empty() {
        true => Err(format!("{host} has no addresses")),
        false => Err(tried.join("; ")),
    }
}

/// Asks the proxy for a tunnel to the host of `url`.
async fn tunnel(socket: &mut TcpStream, url: &Url, proxy: &Proxy) -> Result<(), String> {
    let bracket = if url.host.parse::<std::net::Ipv6Addr>().is_ok() { ("[", "]") } else { ("", "") };
    let place = format!("{}{}{}:{}", bracket.0, url.host, bracket.1, url.port);
    let mut head = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
    if let Some(credentials) = &proxy.credentials {
        head.push_str(&format!("Proxy-Authorization: {}\r\n", basic(credentials)));
    }
    head.push_str("\r\n");
    socket.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= PROXY_HEAD {
            return Err("the head of its answer is too long".into());
        }
        answer.push(socket.read_u8().await.map_err(|error| format!("no answer to CONNECT: {error}"))?);
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some(status) if status.len() == 3 && status.starts_with('2') => Ok(()),
        _ => Err(format!("it refuses the tunnel to {place}: {line:?}")),
    }
}

/// The value of an `Authorization` line for `user:password`.
pub(crate) fn basic(credentials: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials))
}
