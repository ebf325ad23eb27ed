//! Where in a file each field stands.

/// The place of a value: the line of its key or, in a list, of its item; and the places of what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    pub line: usize,
    pub fields: Vec<(String, Spot)>,
    pub items: Vec<Spot>,
}

impl Spot {
    pub fn at(line: usize) -> Self {
        Self { line, ..Self::default() }
    }

    /// The line of a field such as `spec.demand[0].target`; where it is missing, that of the nearest thing around it.
    pub fn line_of(&self, field: &str) -> usize {
        self.step(field).map_or(self.line, |(spot, rest)| spot.line_of(rest))
    }

    fn step<'s, 'f>(&'s self, field: &'f str) -> Option<(&'s Self, &'f str)> {
        if let Some(bracket) = field.strip_prefix('[') {
            let (inside, rest) = bracket.split_once(']')?;
            let item = inside.parse().ok().and_then(|index: usize| self.items.get(index));
            return item.or_else(|| self.field(inside)).map(|spot| (spot, rest));
        }
        let field = field.strip_prefix('.').unwrap_or(field);
        // Keys may hold dots themselves, so the longest that fits is meant.
        let fits = |(key, _): &&(String, Self)| {
            field.strip_prefix(key.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let (key, spot) = self.fields.iter().filter(fits).max_by_key(|(key, _)| key.len())?;
        // An empty key would lead nowhere for ever.
        (!key.is_empty()).then(|| (spot, &field[key.len()..]))
    }

    pub fn field(&self, name: &str) -> Option<&Self> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, spot)| spot)
    }
}

/// `spec` and `demand` make `spec.demand`.
pub fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_field_or_by_what_is_around() {
        let item = Spot { line: 4, fields: vec![("name".into(), Spot::at(5))], items: vec![] };
        let demand = Spot { line: 3, fields: vec![], items: vec![item] };
        let labels = Spot { line: 7, fields: vec![("a.b/c".into(), Spot::at(8))], items: vec![] };
        let root = Spot { line: 1, fields: vec![("demand".into(), demand), ("labels".into(), labels)], items: vec![] };
        assert_eq!(root.line_of("demand[0].name"), 5);
        assert_eq!(root.line_of("demand[0].target.value"), 4);
        assert_eq!(root.line_of("demand[1].name"), 3);
        assert_eq!(root.line_of("labels[a.b/c]"), 8);
        assert_eq!(root.line_of("labels.a.b/c"), 8);
        assert_eq!(root.line_of("nothing"), 1);
        assert_eq!(root.line_of(""), 1);
        assert_eq!(root.line_of("[x"), 1);
    }
}
