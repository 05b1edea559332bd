//! Which proxy a request goes through: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, read as Go reads them.
//!
//! Called by [`crate::http`]. Not for: talking to the proxy.

use std::net::IpAddr;

/// A proxy that speaks HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Its host.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// `user:password`, when the address of the proxy holds it.
    pub(crate) credentials: Option<String>,
}

/// The proxy for a URL of this scheme, host and port. `env` reads a variable. Errors when a variable is there and means
/// nothing we can use.
pub(crate) fn choose(
    scheme: &str,
    host: &str,
    port: u16,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, String> {
    let either = |name: &str| env(name).or_else(|| env(&name.to_lowercase())).filter(|value| !value.is_empty());
    let name = if scheme == "https" { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    let Some(value) = either(name) else { return Ok(None) };
    if is_local(host) || either("NO_PROXY").is_some_and(|list| excluded(&list, host, port)) {
        return Ok(None);
    }
    read(&value).map(Some).map_err(|why| format!("{name} is not usable: {why}"))
}

fn read(value: &str) -> Result<Proxy, String> {
    let rest = match value.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, _)) => return Err(format!("only http:// proxies are spoken to, this one is {scheme}://")),
        None => value,
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (credentials, place) = match authority.rsplit_once('@') {
        Some((credentials, place)) => (Some(decode(credentials)), place),
        None => (None, authority),
    };
    let (host, port) = split_port(place);
    if host.is_empty() {
        return Err("it has no host".into());
    }
    let port = port.map_or(Ok(80), |port| port.parse().map_err(|_| format!("{port} is no port")))?;
    Ok(Proxy { host: host.to_owned(), port, credentials })
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`, bare `v6`.
fn split_port(place: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = place.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    match place.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (place, None),
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || address(host).is_some_and(|ip| ip.is_loopback())
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn excluded(list: &str, host: &str, port: u16) -> bool {
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).any(|item| covers(item, host, port))
}

fn covers(item: &str, host: &str, port: u16) -> bool {
    if item == "*" {
        return true;
    }
    if let (Some((net, bits)), Some(ip)) = (item.split_once('/'), address(host)) {
        return net.parse().is_ok_and(|net| bits.parse().is_ok_and(|bits| within(ip, net, bits)));
    }
    let (name, wanted) = split_port(item);
    if wanted.is_some_and(|wanted| wanted != port.to_string()) {
        return false;
    }
    if let (Some(a), Some(b)) = (address(name), address(host)) {
        return a == b;
    }
    let (name, host) = (name.trim_start_matches('*').to_lowercase(), host.to_lowercase());
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(&name),
        None => host == name || host.strip_suffix(&name).is_some_and(|head| head.ends_with('.')),
    }
}

fn within(ip: IpAddr, net: IpAddr, bits: u32) -> bool {
    let same = |ip: &[u8], net: &[u8]| {
        let bit = |bytes: &[u8], i: u32| bytes.get(i as usize / 8).map(|byte| byte >> (7 - i % 8) & 1);
        bits as usize <= ip.len() * 8 && (0..bits).all(|i| bit(ip, i) == bit(net, i))
    };
    match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => same(&ip.octets(), &net.octets()),
        (IpAddr::V6(ip), IpAddr::V6(net)) => same(&ip.octets(), &net.octets()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(vars: &[(&str, &str)], scheme: &str, host: &str, port: u16) -> Result<Option<Proxy>, String> {
        let env = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        choose(scheme, host, port, &env)
    }

    #[test]
    fn the_scheme_chooses_the_variable() {
        let vars = [("HTTP_PROXY", "proxy:3128"), ("https_proxy", "http://a%40b:c@[::1]:8/")];
        let plain = chosen(&vars, "http", "namerd.example", 80).unwrap().unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.credentials), ("proxy", 3128, None));
        let secure = chosen(&vars, "https", "namerd.example", 443).unwrap().unwrap();
        assert_eq!((secure.host.as_str(), secure.port, secure.credentials.as_deref()), ("::1", 8, Some("a@b:c")));
        assert_eq!(chosen(&[], "http", "namerd.example", 80), Ok(None));
        assert!(chosen(&[("HTTP_PROXY", "socks5://x")], "http", "h", 80).is_err());
        assert!(chosen(&[("HTTP_PROXY", "http://h:port")], "http", "h", 80).is_err());
    }

    #[test]
    fn loopback_is_never_proxied_and_no_proxy_excludes() {
        let cases = [
            ("", "localhost", 80, true),
            ("", "127.0.0.2", 80, true),
            ("", "::1", 80, true),
            ("", "namerd.example", 80, false),
            ("*", "namerd.example", 80, true),
            ("example", "namerd.example", 80, true),
            ("other, namerd.example", "namerd.example", 80, true),
            ("amerd.example", "namerd.example", 80, false),
            (".namerd.example", "namerd.example", 80, false),
            ("*.example", "namerd.example", 80, true),
            ("namerd.example:81", "namerd.example", 80, false),
            ("namerd.example:80", "namerd.example", 80, true),
            ("10.0.0.0/8", "10.1.2.3", 80, true),
            ("10.0.0.0/8", "11.1.2.3", 80, false),
            ("10.0.0.0/99", "10.1.2.3", 80, false),
            ("10.1.2.3", "10.1.2.3", 80, true),
        ];
        for (list, host, port, direct) in cases {
            let vars = [("HTTP_PROXY", "proxy"), ("NO_PROXY", list)];
            assert_eq!(chosen(&vars, "http", host, port).unwrap().is_none(), direct, "{list} {host}");
        }
    }
}
