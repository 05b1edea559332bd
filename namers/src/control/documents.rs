//! [`Documents`]: JSON documents one after the other in a stream of bytes, with white space between them.
//!
//! Called by `control`. A document may be spread over any number of chunks, and a chunk may hold several. Anything else than
//! objects and arrays is an error, above all the text lines with which namerd of Linkerd 1 ended streams. Not for: what the
//! documents mean.

use serde_json::Value;

/// A longer document is an error.
const MAX_DOCUMENT: usize = 16 << 20;
/// So much of what is no document is shown.
const SHOWN: usize = 200;

/// See the module.
#[derive(Default)]
pub(super) struct Documents {
    bytes: Vec<u8>,
    /// So many bytes of a document have been looked at.
    seen: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Documents {
    /// Takes further bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete document; None while there is none. After an error nothing more can be had.
    pub(super) fn next(&mut self) -> Result<Option<Value>, String> {
        if self.seen == 0 {
            let blank = self.bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.bytes.drain(..blank);
        }
        match self.bytes.first() {
            None => return Ok(None),
            Some(b'{' | b'[') => {}
            Some(_) => return Err(format!("it sent what is no JSON: {}", self.line())),
        }
        let Some(end) = self.end() else {
            return match self.bytes.len() > MAX_DOCUMENT {
                true => Err(format!("it sent a document of more than {MAX_DOCUMENT} bytes")),
                false => Ok(None),
            };
        };
        let document =
            serde_json::from_slice(&self.bytes[..end]).map_err(|error| format!("{error} in {}", self.line()))?;
        self.bytes.drain(..end);
        self.seen = 0;
        Ok(Some(document))
    }

    /// What is there without being a document: an error text without a line end.
    pub(super) fn rest(&self) -> Option<String> {
        let line = self.line();
        (!line.is_empty()).then_some(line)
    }

    /// Where the document ends.
    fn end(&mut self) -> Option<usize> {
        while let Some(&byte) = self.bytes.get(self.seen) {
            self.seen += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.seen);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// The beginning of what is there, for messages.
    fn line(&self) -> String {
        let line =
            self.bytes.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
        let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        String::from_utf8_lossy(&line[..line.len().min(SHOWN)]).trim().chars().map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_found_however_they_are_cut() {
        let text = " \n{\"a\":\"}\\\"{\"}\n\r\n[1,{\"b\":[]}]{}";
        let expected = [json!({"a": "}\"{"}), json!([1, {"b": []}]), json!({})];
        for size in 1..text.len() {
            let (mut documents, mut found) = (Documents::default(), Vec::new());
            for chunk in text.as_bytes().chunks(size) {
                documents.push(chunk);
                while let Some(document) = documents.next().expect("documents") {
                    found.push(document);
                }
            }
            assert_eq!(found, expected, "in chunks of {size}");
            assert_eq!(documents.rest(), None);
        }
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        for (text, part) in [
            ("invalid dtab namespace x: no\n", "no JSON: invalid dtab namespace x: no"),
            ("{\"a\":1}\noh\u{1b}", "no JSON: oh\u{fffd}"),
            ("{]", "in {]"),
            ("null", "no JSON: null"),
        ] {
            let mut documents = Documents::default();
            documents.push(text.as_bytes());
            let error = std::iter::repeat_with(|| documents.next()).find_map(Result::err).expect("an error");
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_document_does_not_grow_without_limit() {
        let mut documents = Documents::default();
        documents.push(b"[\"");
        let chunk = vec![b'x'; 1 << 20];
        let error = (0..100).find_map(|_| {
            documents.push(&chunk);
            documents.next().err()
        });
        assert!(error.expect("an error").contains("more than"));
    }
}
