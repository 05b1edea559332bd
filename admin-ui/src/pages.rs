//! The list of pages and how a path finds one.
//!
//! What it is for: registration by closure, routing, the generated index and listing. What it is not: aware of what the
//! pages show. Called by: the binaries (registration), `server` (routing).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use http::Method;

use crate::decode::{encode_path, escape_html};
use crate::{Request, Response};

pub(crate) type Reply = Pin<Box<dyn Future<Output = Response> + Send>>;
pub(crate) type Handler = Arc<dyn Fn(Request) -> Reply + Send + Sync>;

/// Pages by path. A path that ends in `/` also serves everything below it; the longest match wins. Registering a path
/// again replaces the page.
///
/// Built in, unless registered: `/` (HTML with links to every page), `/admin` and `/admin/index.txt` (every path, sorted,
/// one per line: telemetry reference section 17.1).
#[derive(Default)]
pub struct Pages {
    pages: BTreeMap<String, Page>,
}

/// The pages in force; they can be replaced while the server runs.
#[derive(Default)]
pub struct LivePages(RwLock<Arc<Pages>>);

impl LivePages {
    /// Starts with `pages`.
    pub fn new(pages: Pages) -> Self {
        Self(RwLock::new(Arc::new(pages)))
    }

    /// Serves `pages` from the next request on.
    pub fn replace(&self, pages: Pages) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pages);
    }

    pub(crate) fn current(&self) -> Arc<Pages> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Page {
    title: String,
    methods: Vec<Method>,
    handler: Handler,
}

/// What a request leads to.
pub(crate) enum Found {
    /// The page's handler.
    Handler(Handler),
    /// An answer without a handler: generated pages, 404, 405.
    Answer(Response),
}

impl Pages {
    /// Only the built-in pages.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a page that answers every method. `path` as in [`Pages`], in decoded form; a missing leading slash is added.
    /// An empty `title` keeps it out of the HTML index.
    #[must_use]
    pub fn page<F, R>(self, path: &str, title: &str, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Response> + Send + 'static,
    {
        self.insert(path, title, Vec::new(), Arc::new(move |request| Box::pin(handler(request))))
    }

    /// Adds a page for `GET` (and `HEAD`); other methods get 405.
    #[must_use]
    pub fn get<F, R>(self, path: &str, title: &str, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Response> + Send + 'static,
    {
        let methods = vec![Method::GET, Method::HEAD];
        self.insert(path, title, methods, Arc::new(move |request| Box::pin(handler(request))))
    }

    /// Adds a page for `POST`, for everything that changes state; other methods get 405. Not linked from the index.
    #[must_use]
    pub fn post<F, R>(self, path: &str, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Response> + Send + 'static,
    {
        self.insert(path, "", vec![Method::POST], Arc::new(move |request| Box::pin(handler(request))))
    }

    /// Every path that answers, sorted.
    pub fn paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = self.pages.keys().cloned().collect();
        paths.extend(["/", "/admin", "/admin/index.txt"].map(str::to_owned));
        paths.sort();
        paths.dedup();
        paths
    }

    fn insert(mut self, path: &str, title: &str, methods: Vec<Method>, handler: Handler) -> Self {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        self.pages.insert(path, Page { title: title.to_owned(), methods, handler });
        self
    }

    /// Routes a request; `path` in normal form, `method` as sent.
    pub(crate) fn find(&self, path: &str, method: &Method) -> Found {
        match (self.pages.get(path), path) {
            (Some(page), _) => page.accept(method),
            (None, "/") => Found::Answer(Response::html(self.index_html())),
            (None, "/admin" | "/admin/index.txt") => Found::Answer(Response::text(self.listing())),
            (None, _) => match self.prefix(path) {
                Some(page) => page.accept(method),
                None => Found::Answer(Response::not_found()),
            },
        }
    }

    fn prefix(&self, path: &str) -> Option<&Page> {
        path.rmatch_indices('/').find_map(|(at, _)| self.pages.get(&path[..=at]))
    }

    fn listing(&self) -> String {
        let mut out = self.paths().join("\n");
        out.push('\n');
        out
    }

    fn index_html(&self) -> String {
        let mut out = String::from(concat!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Admin</title>",
            "<style>body{font-family:sans-serif;margin:2em}li{margin:.3em 0}code{color:#555}</style>",
            "<h1>Admin</h1><ul>\n",
        ));
        for (path, page) in self.pages.iter().filter(|(_, page)| !page.title.is_empty()) {
            let (href, title, path) = (encode_path(path), escape_html(&page.title), escape_html(path));
            let _ = writeln!(out, "<li><a href=\"{href}\">{title}</a> <code>{path}</code></li>");
        }
        out.push_str("<li><a href=\"/admin\">All paths</a> <code>/admin</code></li>\n</ul></html>\n");
        out
    }
}

impl Page {
    fn accept(&self, method: &Method) -> Found {
        if self.methods.is_empty() || self.methods.contains(method) {
            return Found::Handler(self.handler.clone());
        }
        let allow: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        Found::Answer(Response::method_not_allowed(&allow.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &'static str) -> impl Fn(Request) -> std::future::Ready<Response> {
        move |_| std::future::ready(Response::text(text))
    }

    async fn answer(pages: &Pages, path: &str) -> String {
        let response = match pages.find(path, &Method::GET) {
            Found::Handler(handler) => handler(Request::get(path)).await,
            Found::Answer(response) => response,
        };
        format!("{} {}", response.status.as_u16(), String::from_utf8_lossy(&response.body))
    }

    #[tokio::test]
    async fn exact_before_longest_prefix() {
        let pages = Pages::new()
            .page("/files/", "", says("files"))
            .page("/files/a", "", says("a"))
            .page("/files/deep/", "", says("deep"))
            .page("bare", "", says("old"))
            .page("bare", "", says("bare"));
        for (path, want) in [
            ("/files/", "200 files"),
            ("/files/x/y", "200 files"),
            ("/files/a", "200 a"),
            ("/files/a/b", "200 files"),
            ("/files/deep/x", "200 deep"),
            ("/files", "404 "),
            ("/bare", "200 bare"),
            ("/bare/", "404 "),
            ("/unknown", "404 "),
        ] {
            assert_eq!(answer(&pages, path).await, want, "{path}");
        }
        let with_root = pages.page("/", "", says("root"));
        assert_eq!(answer(&with_root, "/").await, "200 root");
        assert_eq!(answer(&with_root, "/unknown").await, "200 root");
        assert!(answer(&with_root, "/admin").await.contains("/files/deep/\n"));
    }

    #[tokio::test]
    async fn the_index_is_escaped_and_the_listing_sorted() {
        let pages = Pages::new()
            .page("/z/<b>\"#", "<script>alert(1)</script>", says("z"))
            .page("/a", "First", says("a"))
            .post("/admin/shutdown", says("quitting\n"));
        let index = answer(&pages, "/").await;
        assert!(index.contains("<a href=\"/z/%3Cb%3E%22%23\">&lt;script&gt;alert(1)&lt;/script&gt;</a>"), "{index}");
        assert!(!index.contains("<script>") && !index.contains("shutdown"));
        let listing = "200 /\n/a\n/admin\n/admin/index.txt\n/admin/shutdown\n/z/<b>\"#\n";
        assert_eq!(answer(&pages, "/admin").await, listing);
        assert_eq!(answer(&pages, "/admin/index.txt").await, listing);
    }
}
