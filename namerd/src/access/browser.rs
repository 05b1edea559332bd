//! Refuses state changes that a page of another site has made a browser send (attack A2).
//!
//! A browser says where a request comes from (`Origin`, `Sec-Fetch-Site`), and without asking it sends only simple content
//! types. The host names that a server answers to, against DNS rebinding, are [`admin::HostCheck`]'s. Called by the HTTP
//! interface. Not for: anyone who can open a connection himself.

use http::header::{CONTENT_TYPE, COOKIE, ORIGIN, REFERER};
use http::request::Parts;
use http::{HeaderName, Method};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether this request for a state change is none that a browser was led to; the text of an error is for the caller.
pub fn check(request: &Parts) -> Result<(), String> {
    let header = |name: &HeaderName| request.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    if let Some(site) = header(&SEC_FETCH_SITE)
        && !matches!(&*site, "same-origin" | "none")
    {
        return Err(format!(
            "this request changes something and a browser sent it for another site (Sec-Fetch-Site: {site})"
        ));
    }
    let media_type = header(&CONTENT_TYPE).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if matches!(&*media_type, "application/x-www-form-urlencoded" | "multipart/form-data") {
        return Err(format!(
            "this request changes something and its Content-Type is that of a form ({media_type}); send the dtab as \
             application/dtab or application/json"
        ));
    }
    let browser = [ORIGIN, REFERER, COOKIE, SEC_FETCH_SITE].iter().any(|name| request.headers.contains_key(name));
    if request.method == Method::POST && media_type == "text/plain" && browser {
        return Err(
            "a browser must not send a dtab as text/plain, which any site can make it do; use application/dtab".into(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(method: &str, headers: &[(&str, &str)]) -> bool {
        let request = http::Request::builder().method(method).uri("/api/1/dtabs/x");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        check(&request.body(()).expect("a request").into_parts().0).is_ok()
    }

    #[test]
    fn what_other_sites_can_send_is_refused() {
        assert!(passes("PUT", &[("content-type", "application/dtab")]));
        assert!(passes("POST", &[("content-type", "text/plain; charset=utf-8")]));
        assert!(passes("POST", &[("content-type", "application/json"), ("sec-fetch-site", "same-origin")]));
        assert!(passes("DELETE", &[]));
        for (method, headers) in [
            ("POST", &[("content-type", "application/dtab"), ("sec-fetch-site", "cross-site")][..]),
            ("DELETE", &[("sec-fetch-site", "same-site")]),
            ("POST", &[("content-type", "Application/X-WWW-Form-Urlencoded ; charset=utf-8")]),
            ("PUT", &[("content-type", "multipart/form-data; boundary=x")]),
            ("POST", &[("content-type", "text/plain"), ("origin", "http://evil.example")]),
            ("POST", &[("content-type", "text/plain"), ("referer", "http://evil.example/x")]),
        ] {
            assert!(!passes(method, headers), "{method} {headers:?}");
        }
    }
}
