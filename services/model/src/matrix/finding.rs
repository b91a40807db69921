//! An error as it is found: a place in bytes, sentences, and the words that make them.
//! May not: know lines and columns; that is `diagnostic`.

/// A piece of the source, in bytes from its beginning. The default stands for no place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    /// The first byte.
    pub(super) start: usize,
    /// The byte after the last.
    pub(super) end: usize,
}

/// An error as it is found: a place in bytes, and sentences.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    /// Where; none where the source is not at hand.
    pub(super) at: Option<Spot>,
    /// The part of that place that matters, as it stands in the source.
    pub(super) part: Option<String>,
    pub(super) message: String,
    pub(super) expected: Option<String>,
    pub(super) notes: Vec<(String, Option<Spot>)>,
    pub(super) help: Option<String>,
}

impl Finding {
    /// An error at `at`.
    pub(super) fn new(at: Spot, message: impl Into<String>) -> Self {
        let message = message.into();
        let (part, expected, notes, help) = (None, None, Vec::new(), None);
        Self {
            at: Some(at),
            part,
            message,
            expected,
            notes,
            help,
        }
    }

    /// An error without a place.
    pub(super) fn nowhere(message: impl Into<String>) -> Self {
        Self {
            at: None,
            ..Self::new(Spot::default(), message)
        }
    }

    /// Points at `part` of the place, where it stands there as it is.
    #[must_use]
    pub(super) fn at_part(mut self, part: impl Into<String>) -> Self {
        self.part = Some(part.into());
        self
    }

    /// What should have been there.
    #[must_use]
    pub(super) fn expected(mut self, text: impl Into<String>) -> Self {
        self.expected = Some(text.into());
        self
    }

    /// The way out.
    #[must_use]
    pub(super) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// The way out, where one is known.
    #[must_use]
    pub(super) fn help_if(mut self, text: Option<String>) -> Self {
        self.help = text.or(self.help);
        self
    }

    /// Another place that has to do with it.
    #[must_use]
    pub(super) fn note(mut self, text: impl Into<String>, at: Spot) -> Self {
        self.notes.push((text.into(), Some(at)));
        self
    }

    /// A remark.
    #[must_use]
    pub(super) fn remark(mut self, text: impl Into<String>) -> Self {
        self.notes.push((text.into(), None));
        self
    }
}

/// A piece of the source inside a message: quoted, on one line, and cut.
pub(super) fn quote(text: &str) -> String {
    const MOST: usize = 60;
    let cut: String = text.chars().take(MOST).collect();
    let dots = if text.chars().count() > MOST {
        "..."
    } else {
        ""
    };
    format!("`{}{dots}`", cut.replace('\n', "\\n").replace('\t', "\\t"))
}

/// `did you mean ...`, where one of `known` is near to `word`.
pub(super) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(word, known).map(|near| format!("did you mean {}?", quote(near)))
}

/// The word of `known` that is nearest to `word`, where one is near enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing takes the product of both lengths; nobody mistypes a word this long.
    const LONGEST: usize = 64;
    const MOST_KNOWN: usize = 1000;
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let fold = |text: &str| text.to_lowercase().replace('_', "-");
    let folded = fold(word);
    let known = known
        .into_iter()
        .take(MOST_KNOWN)
        .filter(|k| k.len() <= LONGEST && *k != word);
    let scored = known.map(|k| (strsim::damerau_levenshtein(&folded, &fold(k)), k));
    let most = (folded.chars().count() / 3).max(1);
    scored
        .filter(|(far, _)| *far <= most)
        .min_by_key(|(far, _)| *far)
        .map(|(_, k)| k)
}

/// The words as a list for a sentence: "`a`, `b` or `c`", cut where there are many.
pub(super) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 30;
    let mut words = words.into_iter();
    let mut quoted: Vec<String> = words.by_ref().take(MOST).map(quote).collect();
    let more = words.count();
    if more > 0 {
        return format!("{} or one of {more} others", quoted.join(", "));
    }
    match quoted.pop() {
        None => "nothing".to_owned(),
        Some(last) if quoted.is_empty() => last,
        Some(last) => format!("{} or {last}", quoted.join(", ")),
    }
}
