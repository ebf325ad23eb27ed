//! Reads YAML as kubectl does, and remembers the line of each field.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use serde_json::{Map, Value};

use super::scalar::{self, BadScalar};
use super::spot::{Spot, join};

/// One document of a file.
#[derive(Debug)]
pub struct Document {
    pub value: Value,
    pub spot: Spot,
    /// Keys that are set more than once.
    pub duplicates: Vec<Duplicate>,
}

/// A key that was set before.
#[derive(Debug)]
pub struct Duplicate {
    pub line: usize,
    pub field: String,
}

/// A document that cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{line}: {fault}")]
pub struct Unreadable {
    pub line: usize,
    pub fault: Fault,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Syntax(String),
    #[error(transparent)]
    Scalar(#[from] BadScalar),
    #[error("a key must be a word")]
    Key,
    #[error("only a mapping or a list of mappings can be merged with <<")]
    Merge,
    #[error("an alias inside of its own anchor")]
    Endless,
    #[error("nested more than {MAX_DEPTH} deep")]
    Deep,
    #[error("larger than the 3 MiB that an API server takes")]
    Large,
    #[error("a second document without a line of --- before it")]
    Second,
}

const MAX_DEPTH: usize = 100;
/// Counted after aliases have been replaced by what they stand for.
const MAX_WEIGHT: usize = 3 << 20;

/// The documents of a file; those that hold nothing are left out, and one that cannot be read does not hide the others.
pub fn documents(text: &str) -> Vec<Result<Document, Unreadable>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parts = split(text);
    parts.into_iter().filter_map(|(lines_before, part)| Builder::new(part, lines_before).document().transpose()).collect()
}

/// Parts between lines of `---`, each with the number of lines before it: kubectl splits before it parses, too.
fn split(text: &str) -> Vec<(usize, &str)> {
    let (mut parts, mut start, mut lines_before, mut at) = (Vec::new(), 0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let after = at + line.len();
        if line.strip_prefix("---").is_some_and(|rest| rest.trim().is_empty() || rest.trim_start().starts_with('#')) {
            parts.push((lines_before, &text[start..at]));
            (start, lines_before) = (after, number + 1);
        }
        at = after;
    }
    parts.push((lines_before, &text[start..]));
    parts
}

type Part = (Value, Spot);

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    lines_before: usize,
    anchors: HashMap<usize, (Part, usize)>,
    weight: usize,
    duplicates: Vec<Duplicate>,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str, lines_before: usize) -> Self {
        let parser = Parser::new_from_str(text);
        Self { parser, lines_before, anchors: HashMap::new(), weight: 0, duplicates: Vec::new() }
    }

    fn document(mut self) -> Result<Option<Document>, Unreadable> {
        let Some((event, span)) = self.content()? else { return Ok(None) };
        let (value, spot) = self.node(event, span, "", 0)?;
        if let Some((_, span)) = self.content()? {
            return Err(self.fault(span, Fault::Second));
        }
        Ok((!value.is_null()).then_some(Document { value, spot, duplicates: self.duplicates }))
    }

    /// The next event that belongs to a value, or `None` at the end.
    fn content(&mut self) -> Result<Option<(Event<'t>, Span)>, Unreadable> {
        while let Some(next) = self.parser.next_event() {
            let (event, span) = next.map_err(|error| self.syntax(&error))?;
            if !matches!(event, Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd)
                && !is_comment(&event)
            {
                return Ok(Some((event, span)));
            }
        }
        Ok(None)
    }

    fn inner(&mut self, span: Span) -> Result<(Event<'t>, Span), Unreadable> {
        self.content()?.ok_or_else(|| self.fault(span, Fault::Syntax("unexpected end".to_owned())))
    }

    fn node(&mut self, event: Event<'t>, span: Span, path: &str, depth: usize) -> Result<Part, Unreadable> {
        if depth > MAX_DEPTH {
            return Err(self.fault(span, Fault::Deep));
        }
        let weight_before = self.weight;
        self.weigh(span, 1)?;
        let line = self.line(span);
        let (anchor, part) = match event {
            Event::Alias(anchor) => return self.alias(anchor, span),
            Event::Scalar(text, style, anchor, tag) => {
                self.weigh(span, text.len())?;
                let value = meaning(&text, style, tag.as_deref()).map_err(|bad| self.fault(span, bad.into()))?;
                (anchor, (value, Spot::at(line)))
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.list(span, path, depth)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping(span, path, depth)?),
            other => return Err(self.fault(span, Fault::Syntax(format!("unexpected {other:?}")))),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, (part.clone(), self.weight - weight_before));
        }
        Ok(part)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Part, Unreadable> {
        let Some((_, weight)) = self.anchors.get(&anchor) else { return Err(self.fault(span, Fault::Endless)) };
        // Weighed before it is copied: a few lines of aliases of aliases would fill the memory.
        self.weigh(span, *weight)?;
        self.anchors.get(&anchor).map(|(part, _)| part.clone()).ok_or_else(|| self.fault(span, Fault::Endless))
    }

    fn list(&mut self, start: Span, path: &str, depth: usize) -> Result<Part, Unreadable> {
        let (mut values, mut spot) = (Vec::new(), Spot::at(self.line(start)));
        loop {
            let (event, span) = self.inner(start)?;
            if event == Event::SequenceEnd {
                return Ok((Value::Array(values), spot));
            }
            let (value, item) = self.node(event, span, &format!("{path}[{}]", values.len()), depth + 1)?;
            values.push(value);
            spot.items.push(item);
        }
    }

    fn mapping(&mut self, start: Span, path: &str, depth: usize) -> Result<Part, Unreadable> {
        let (mut values, mut spot) = (Map::new(), Spot::at(self.line(start)));
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.inner(start)?;
            if event == Event::MappingEnd {
                break;
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node(event, span, path, depth + 1)?.0;
            let key = key_text(key).ok_or_else(|| self.fault(span, Fault::Key))?;
            let field = join(path, &key);
            let (event, value_span) = self.inner(span)?;
            let (value, mut place) = self.node(event, value_span, &field, depth + 1)?;
            place.line = self.line(span);
            if is_merge {
                merged.extend(mappings(value, place).ok_or_else(|| self.fault(span, Fault::Merge))?);
            } else if values.insert(key.clone(), value).is_some() {
                self.duplicates.push(Duplicate { line: place.line, field });
            } else {
                spot.fields.push((key, place));
            }
        }
        for (value, from) in merged {
            merge(&mut values, &mut spot, value, &from);
        }
        Ok((Value::Object(values), spot))
    }

    fn weigh(&mut self, span: Span, weight: usize) -> Result<(), Unreadable> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight > MAX_WEIGHT { Err(self.fault(span, Fault::Large)) } else { Ok(()) }
    }

    fn line(&self, span: Span) -> usize {
        self.lines_before + span.start.line().max(1)
    }

    fn fault(&self, span: Span, fault: Fault) -> Unreadable {
        Unreadable { line: self.line(span), fault }
    }

    fn syntax(&self, error: &ScanError) -> Unreadable {
        Unreadable { line: self.lines_before + error.marker().line().max(1), fault: Fault::Syntax(error.info()) }
    }
}

fn is_comment(event: &Event<'_>) -> bool {
    matches!(event, Event::Comment(..))
}

fn meaning(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, BadScalar> {
    match tag {
        Some(tag) => scalar::tagged(tag.core_suffix().unwrap_or("str"), text),
        None if style == ScalarStyle::Plain => scalar::plain(text),
        None => Ok(Value::String(text.to_owned())),
    }
}

/// Keys of JSON are text, whatever they look like.
fn key_text(key: Value) -> Option<String> {
    match key {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn mappings(value: Value, spot: Spot) -> Option<Vec<(Map<String, Value>, Spot)>> {
    match value {
        Value::Object(map) => Some(vec![(map, spot)]),
        Value::Array(items) => {
            let one = |(value, spot)| match value {
                Value::Object(map) => Some((map, spot)),
                _ => None,
            };
            items.into_iter().zip(spot.items).map(one).collect()
        }
        _ => None,
    }
}

/// What is set here goes before what is merged in, and what is merged in first before what comes later.
fn merge(values: &mut Map<String, Value>, spot: &mut Spot, from: Map<String, Value>, places: &Spot) {
    for (key, value) in from {
        if !values.contains_key(&key) {
            spot.fields.push((key.clone(), places.field(&key).cloned().unwrap_or_else(|| Spot::at(places.line))));
            values.insert(key, value);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(text: &str) -> Document {
        documents(text).remove(0).expect("readable")
    }

    #[test]
    fn fields_keep_their_lines_across_documents() {
        let text = "# first\na: 1\n---\n# nothing\n--- # and\nb:\n  - c: x\n    d: w\n  - {e: z}\n";
        let read: Vec<_> = documents(text).into_iter().map(Result::unwrap).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[1].value, json!({"b": [{"c": "x", "d": "w"}, {"e": "z"}]}));
        assert_eq!(read[1].spot.line_of("b"), 6);
        assert_eq!(read[1].spot.line_of("b[0].d"), 8);
        assert_eq!(read[1].spot.line_of("b[1].e"), 9);
    }

    #[test]
    fn a_broken_document_does_not_hide_the_next() {
        let read = documents("a: [1\n---\nb: 2\n");
        assert!(read[0].is_err());
        assert_eq!(read[1].as_ref().map(|d| d.value.clone()).ok(), Some(json!({"b": 2})));
    }

    #[test]
    fn aliases_and_merges_are_resolved() {
        let text = "base: &base {a: 1, b: 2}\nuse:\n  <<: *base\n  b: 3\nsame: *base\n";
        assert_eq!(one(text).value, json!({"base": {"a": 1, "b": 2}, "use": {"b": 3, "a": 1}, "same": {"a": 1, "b": 2}}));
    }

    #[test]
    fn duplicates_are_told_with_their_line() {
        let read = one("a:\n  b: 1\n  c: 2\n  b: 3\n");
        assert_eq!((read.duplicates[0].line, read.duplicates[0].field.as_str()), (4, "a.b"));
    }

    #[test]
    fn aliases_of_aliases_do_not_fill_the_memory() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let list = vec![format!("*a{}", n - 1); 8].join(", ");
            text.extend(["a", &n.to_string(), ": &a", &n.to_string(), " [", &list, "]\n"]);
        }
        assert!(matches!(documents(&text)[0], Err(Unreadable { fault: Fault::Large, .. })));
    }

    #[test]
    fn depth_has_an_end() {
        let text = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(documents(&text)[0].is_err());
    }
}
