//! S3: the fuzz targets, driven by proptest: random bytes, and samples with parts cut out, doubled and changed.

use e2e::fuzz;
use proptest::collection::vec;
use proptest::prelude::*;

const PATHS: &[&str] =
    &["/svc/web", "/#/io.l5d.fs/a\\x2fb", "/svc/{name}/*\n/svc/a/b", "/a-{b}.c{d}:https\n/a-x.cy:https"];

const DTABS: &[&str] = &[
    "/svc => /#/known ; /svc/web => 0.25 * /a & 3 * (/b | /c) ;",
    "# comment\n/a/*/c => ! | ~ | $ ; /b => /$/inet/127.1/80",
    "/x=>/x/x/x; /svc => /#/again/svc",
    "/a0=>/a1&/a1; /a1=>/a2&/a2; /a2=>/a3&/a3; /svc=>/a0",
    "/\\x00\\xff => /$/io.buoyant.hostportPfx/p/h:80/r;",
];

const CONFIGS: &[&str] = &[
    "routers:\n- protocol: http\n  servers: [{ port: 0 }]\n  dtab: /svc => /$/inet/127.1/80\n",
    "admin: { port: 1 }\nnamers: [{ kind: io.l5d.rewrite, prefix: /r, pattern: /{a}, name: /b/{a} }]\nrouters: []\n",
    "{\"routers\": [{\"protocol\": \"http\", \"label\": \"x\", \"servers\": [{\"port\": 4140}], \"client\": {\"kind\": \"io.l5d.static\", \"configs\": [{\"prefix\": \"/\"}]}}]}",
    "a: &x [1]\nb: *x\n? [c]\n: !t d\n---\n...\n%YAML 1.2\n",
];

const CONTEXTS: &[&str] = &[
    "l5d-dtab:/a => /b\nl5d-ctx-dtab:/c => /d | /e\nl5d-ctx-deadline:1 2\nl5d-sample:0.5",
    "l5d-ctx-trace:AAAAAAAAAKoAAAAAAAAAuwAAAAAAAAC7AAAAAAAAAAY=\nhost:a:80\nconnection:close, x\nx:1",
    "host:[::1]:80\nvia:1.1 a, 1.1 b\nl5d_dtab:x\nbaggage:dtab=a;p=1,b=%20c",
];

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: v\r\n\r\n",
    "GET http://a/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\n\r\nuntil the end",
];

/// Samples with parts of others, and of nothing, in them.
fn near(samples: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let pick = || prop::sample::select(samples);
    let edit = (pick(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), vec(any::<u8>(), 0..4));
    let edited = (pick(), vec(edit, 0..4)).prop_map(|(start, edits)| {
        let mut bytes = start.as_bytes().to_vec();
        for (other, at, length, junk) in edits {
            let at = at.index(bytes.len() + 1);
            let length = length.index(bytes.len() + 1 - at);
            let from = other.as_bytes();
            let part = &from[at.min(from.len())..(at + length).min(from.len())];
            let new: Vec<u8> = part.iter().chain(&junk).copied().collect();
            bytes.splice(at..at + length.min(3), new);
        }
        bytes
    });
    prop_oneof![4 => edited, 1 => vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn path(data in near(PATHS)) {
        fuzz::path(&data);
    }

    #[test]
    fn dtab(data in near(DTABS)) {
        fuzz::dtab(&data);
    }

    #[test]
    fn config(data in near(CONFIGS)) {
        fuzz::config(&data);
    }

    #[test]
    fn context(data in near(CONTEXTS)) {
        fuzz::context(&data);
    }

    #[test]
    fn framing(data in near(REQUESTS)) {
        fuzz::framing(&data);
    }

    #[test]
    fn response(data in near(RESPONSES)) {
        fuzz::response(&data);
    }
}
