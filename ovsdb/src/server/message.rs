//! JSON-RPC messages, written out.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::json::write_string;

/// A message on its way to a client, as JSON text. The long part of a notification is shared by all who get it.
#[derive(Clone, Debug)]
pub struct Message {
    head: String,
    shared: Option<Arc<str>>,
    tail: &'static str,
    /// It is news of a database, which may come a moment later, together with more of it.
    is_news: bool,
}

impl Message {
    /// A reply with this result, which is JSON text.
    pub fn reply(id: &Value, result: &str) -> Self {
        let mut head = String::with_capacity(result.len() + 48);
        head.push_str("{\"id\":");
        write(&mut head, id);
        head.push_str(",\"result\":");
        head.push_str(result);
        head.push_str(",\"error\":null}");
        Self { head, shared: None, tail: "", is_news: false }
    }

    /// A notification whose last parameter is the JSON text `shared`.
    pub fn notification(method: &str, params: &[&Value], shared: Arc<str>) -> Self {
        let mut head = String::with_capacity(96);
        head.push_str("{\"id\":null,\"method\":");
        write_string(&mut head, method);
        head.push_str(",\"params\":[");
        for param in params {
            write(&mut head, param);
            head.push(',');
        }
        Self { head, shared: Some(shared), tail: "]}", is_news: true }
    }

    /// The part that is its own, the shared one, and the end.
    pub fn into_parts(self) -> (String, Option<Arc<str>>, &'static str) {
        (self.head, self.shared, self.tail)
    }

    /// Its text, in pieces.
    pub fn pieces(&self) -> [&str; 3] {
        [&self.head, self.shared.as_deref().unwrap_or_default(), self.tail]
    }

    /// True if nobody waits for it: it tells of changes to a database.
    pub fn is_news(&self) -> bool {
        self.is_news
    }

    /// How long its text is.
    pub fn len(&self) -> usize {
        self.pieces().iter().map(|piece| piece.len()).sum()
    }

    /// True without text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.to_string()).unwrap_or_default()
    }
}

impl From<Value> for Message {
    fn from(message: Value) -> Self {
        Self { head: message.to_string(), shared: None, tail: "", is_news: false }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces().iter().try_for_each(|piece| f.write_str(piece))
    }
}

/// Appends JSON.
fn write(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => write_string(out, text),
        other => out.push_str(&other.to_string()),
    }
}
