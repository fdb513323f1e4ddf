//! The commands on all keys of this node's memory, for people and tests.
use super::keys::{WHOLE, find};
use crate::resp::{
    codec::put,
    command::{Command, Invocation, Keys, command},
    output::Output,
    session::{Next, Outcome, Session, Then},
};
use crate::{call::ClientRequest, memory::Groups};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    command("scan", -2, Keys::None, "readonly", "The keys in this node's memory, a group at a time, with MATCH", scan),
    command("dbsize", 1, Keys::None, "readonly", "How many values this node's memory has", size),
    command("flushdb", -1, Keys::None, "write", "Clear the groups of this node on every node, if that is allowed", flush),
    command("flushall", -1, Keys::None, "write", "Does what FLUSHDB does", flush),
];

fn names(asked: &Invocation<'_>) -> Vec<String> {
    let mut names: Vec<_> = asked.groups.named.lock().keys().cloned().collect();
    names.sort();
    names
}

fn keys(asked: &Invocation<'_>, name: &str) -> Vec<String> {
    crate::memory::group(asked.groups, name.as_bytes()).map_or_else(Vec::new, |memory| memory.keys())
}

/// The cursor is the place of the next group.
fn scan(_: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    let arguments = asked.arguments;
    let text = |at: usize| arguments.get(at).and_then(|text| std::str::from_utf8(text).ok());
    let cursor: usize = text(1).and_then(|text| text.parse().ok()).ok_or("ERR invalid cursor")?;
    let mut pattern = &b"*"[..];
    for at in (2..arguments.count()).step_by(2) {
        let word = arguments.get(at).unwrap_or_default().to_ascii_uppercase();
        match (word.as_slice(), arguments.get(at + 1)) {
            (b"MATCH", Some(given)) => pattern = given,
            (b"COUNT", Some(_)) => {}
            (b"TYPE", Some(kind)) if kind.eq_ignore_ascii_case(b"string") => {}
            _ => return Err("ERR syntax error".into()),
        }
    }
    let names = names(asked);
    let named = |key: String| shown(&names[cursor], key, asked.groups);
    let found: Vec<_> = names.get(cursor).map_or_else(Vec::new, |name| keys(asked, name));
    let found: Vec<_> = found.into_iter().map(named).filter(|key| matches(pattern, key.as_bytes())).collect();
    let next = if cursor + 1 < names.len() { cursor + 1 } else { 0 };
    out.array(2);
    out.text(&next.to_string());
    out.array(found.len());
    found.iter().for_each(|key| put(&mut out.bytes, key.as_bytes()));
    Ok(Next::Done)
}

/// Returns the name by which a client finds a key.
fn shown(group: &str, key: String, groups: &Groups) -> String {
    let whole = group == WHOLE
        && find(key.as_bytes(), groups).is_ok_and(|(memory, found)| memory.name() == WHOLE && found == key);
    if whole { key } else { format!("{group}:{key}") }
}

fn size(_: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    let count: usize = names(asked).iter().map(|name| keys(asked, name).len()).sum();
    out.number(count as i64);
    Ok(Next::Done)
}

fn flush(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    let mut options = asked.arguments.from(1);
    if !options.all(|option| option.eq_ignore_ascii_case(b"SYNC") || option.eq_ignore_ascii_case(b"ASYNC")) {
        return Err("ERR syntax error".into());
    }
    asked.later(Then::Ok, ClientRequest { command: "flush", ..ClientRequest::default() })
}

/// Returns whether a text matches a pattern of Redis: `*`, `?`, `[a-z]`, and a backslash before what stands for itself.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // At the last star: the pattern behind it, and the text that it has not taken yet.
    let (mut pattern, mut text, mut star) = (pattern, text, None);
    loop {
        if let [b'*', rest @ ..] = pattern {
            star = Some((rest, text));
            pattern = rest;
            continue;
        }
        if pattern.is_empty() && text.is_empty() {
            return true;
        }
        match (single(pattern), text.split_first()) {
            (Some((takes, rest)), Some((&byte, left))) if takes(byte) => (pattern, text) = (rest, left),
            _ => match star {
                Some((behind, [_, left @ ..])) => {
                    (pattern, text) = (behind, left);
                    star = Some((behind, left));
                }
                _ => return false,
            },
        }
    }
}

/// Returns what the first part of a pattern takes, and the rest.
fn single(pattern: &[u8]) -> Option<(impl Fn(u8) -> bool, &[u8])> {
    let (set, not, rest): (&[u8], bool, &[u8]) = match pattern {
        [] => return None,
        [b'?', rest @ ..] => (&[], true, rest),
        [b'[', inner @ ..] => match inner.iter().position(|&byte| byte == b']') {
            Some(end) if inner[0] == b'^' => (&inner[1..end], true, &inner[end + 1..]),
            Some(end) => (&inner[..end], false, &inner[end + 1..]),
            None => (&pattern[..1], false, inner),
        },
        [b'\\', _, rest @ ..] => (&pattern[1..2], false, rest),
        [_, rest @ ..] => (&pattern[..1], false, rest),
    };
    let takes = move |byte: u8| {
        let ranges = set.windows(3).any(|range| range[1] == b'-' && (range[0]..=range[2]).contains(&byte));
        (set.contains(&byte) || ranges) != not
    };
    Some((takes, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_as_redis_has_them() {
        for (pattern, text, is) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c*", "abcb", true),
            ("a*c", "abcb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a[a-c]c", "abc", true),
            ("a[^b]c", "abc", false),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("users:*", "users:1", true),
            ("users:*", "plain:1", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), is, "{pattern} {text}");
        }
    }
}
