//! The nearest known word, by edit distance.

/// The candidate with the fewest edits (insertion, deletion, replacement, exchange of neighbours) from `word`, if
/// there are at most a third as many as `word` has characters, or two. Of several the first.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(2);
    candidates
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= limit && *edits < candidate.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_what_is_near() {
        let words = ["port", "url", "start", "status"];
        assert_eq!(nearest("prot", words.into_iter()), Some("port"));
        assert_eq!(nearest("strat", words.into_iter()), Some("start"));
        assert_eq!(nearest("completely", words.into_iter()), None);
    }
}
