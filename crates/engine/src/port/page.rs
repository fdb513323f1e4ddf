//! The page for people at `/`: one file without any other, and the headers that let nothing else into it.
use std::{fmt::Write, sync::LazyLock};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::digest::{SHA256, digest};

pub const PAGE: &str = include_str!("page.html");

/// The headers of the page. Its own style and script may run, by their hashes, and it may ask this node alone: so a key
/// or a name that looks like HTML can do nothing, even if the page had put it in as such.
pub static HEADERS: LazyLock<String> = LazyLock::new(|| {
    let mut policy = String::from("default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; ");
    policy.push_str("form-action 'none'; frame-ancestors 'none'");
    for kind in ["style", "script"] {
        let hash = BASE64_STANDARD.encode(digest(&SHA256, inside(kind).as_bytes()));
        let _ = write!(policy, "; {kind}-src 'sha256-{hash}'"); // a String takes everything
    }
    format!("Content-Security-Policy: {policy}\r\nReferrer-Policy: no-referrer\r\n")
});

/// Returns the text of the page's one element of that name.
fn inside(name: &str) -> &'static str {
    let rest = PAGE.split_once(&format!("<{name}>")).map_or("", |(_, rest)| rest);
    rest.split_once(&format!("</{name}>")).map_or("", |(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_style_and_one_script_and_names_nothing_outside() {
        for name in ["style", "script"] {
            assert_eq!(PAGE.matches(&format!("<{name}")).count(), 1, "{name}");
            assert!(inside(name).len() > 500, "{name}");
        }
        for outside in ["http:", "https:", "src=", "@import", "url(", "style=", "innerHTML"] {
            let text = PAGE.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains(outside), "{outside}");
        }
    }
}
