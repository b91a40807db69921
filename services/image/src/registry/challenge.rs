//! Reading `WWW-Authenticate`: which ways of proving who one is a registry offers. May not: ask anybody.

/// Longest header value that is looked at, in bytes.
const HEADER_MOST: usize = 8 << 10;

/// One way that the registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token from `realm`.
    Bearer {
        /// Where tokens are had.
        realm: String,
        /// Which service the token is for.
        service: Option<String>,
        /// What it must allow.
        scope: Option<String>,
    },
    /// User and password.
    Basic,
}

/// All known challenges of a header's values; what cannot be read is left out.
pub(super) fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    values
        .into_iter()
        .filter(|value| value.len() <= HEADER_MOST)
        .flat_map(parse_one)
        .collect()
}

fn parse_one(value: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut scheme: Option<String> = None;
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut reader = Reader { rest: value };
    loop {
        reader.skip();
        let word = reader.token();
        if word.is_empty() {
            break;
        }
        if reader.take('=') {
            let value = reader.value();
            parameters.push((word.to_ascii_lowercase(), value));
        } else {
            challenges.extend(finish(scheme.take(), &mut parameters));
            scheme = Some(word.to_ascii_lowercase());
        }
    }
    challenges.extend(finish(scheme, &mut parameters));
    challenges
}

fn finish(scheme: Option<String>, parameters: &mut Vec<(String, String)>) -> Option<Challenge> {
    let parameters = std::mem::take(parameters);
    let get = |name: &str| {
        parameters
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
    };
    match scheme?.as_str() {
        "bearer" => Some(Challenge::Bearer {
            realm: get("realm")?,
            service: get("service"),
            scope: get("scope"),
        }),
        "basic" => Some(Challenge::Basic),
        _ => None,
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip(&mut self) {
        self.rest = self
            .rest
            .trim_start_matches(|c: char| c.is_whitespace() || c == ',');
    }

    fn token(&mut self) -> String {
        let end = self
            .rest
            .find(|c: char| c.is_whitespace() || matches!(c, '=' | ',' | '"'))
            .unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token.to_owned()
    }

    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self) -> String {
        if !self.take('"') {
            return self.token();
        }
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return out;
                }
                '\\' => out.extend(chars.next().map(|(_, c)| c)),
                c => out.push(c),
            }
        }
        self.rest = "";
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: Some("registry.example".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        let header = "Bearer realm=\"https://auth.example/token\",service=\"registry.example\", \
                      scope=\"repository:a/b:pull,push\"";
        assert_eq!(parse([header]), std::slice::from_ref(&bearer));
        assert_eq!(
            parse([header, "Basic realm=\"x\""]),
            [bearer.clone(), Challenge::Basic]
        );
        let both = format!("Basic realm=\"a, \\\"b\\\"\", {header}");
        assert_eq!(parse([both.as_str()]), [Challenge::Basic, bearer]);
        assert_eq!(parse(["basic realm=x"]), [Challenge::Basic]);
    }

    #[test]
    fn nonsense_is_left_out() {
        for text in [
            "",
            "Bearer",
            "Bearer realm",
            "Negotiate abc==",
            "\"",
            "=",
            "a=\"",
            ",,,",
            "Bearer \"x",
        ] {
            assert_eq!(parse([text]), [], "{text}");
        }
    }
}
