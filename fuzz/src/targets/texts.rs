//! Short texts: addresses, values that say what they are, versions, passwords, names on certificates.
use kamacache_engine::{
    call::is_key,
    marked, orders,
    security::{Password, Security, tls},
    socket::Address,
};

pub fn run(input: &[u8]) {
    marks(input);
    if let Ok(version) = orders::version(input) {
        assert_eq!(orders::bytes(version).is_empty(), version == 0);
    }
    let (first, rest) = input.split_at(input.len() / 2);
    if let Some(password) = std::str::from_utf8(first).ok().and_then(Password::new) {
        let each: Vec<_> = first.split(|&byte| byte == b' ').filter(|one| !one.is_empty()).collect();
        assert!(each.iter().all(|one| password.is(one)) && password.text().as_bytes() == each[0]);
        assert_eq!(password.is(rest), each.contains(&rest));
        let security = Security { password: Some(password), ..Security::default() };
        let headers: Vec<_> = each.iter().map(|one| [b"Bearer ", *one].concat()).collect();
        assert!(headers.iter().all(|header| security.admits(Some(header), "here").is_ok()));
        assert_eq!(security.admits(Some(rest), "here").is_ok(), headers.iter().any(|header| header == rest));
        assert!(security.admits(None, "here").is_err());
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string(), text);
    }
    let _ = tls::server_name(text);
    let _ = is_key(text);
}

fn marks(input: &[u8]) {
    match marked::shown(input) {
        Some(shown) => assert!(input.ends_with(shown) && (marked::is(input) || shown == input)),
        None => assert!(marked::is(input)),
    }
    if let Some(number) = marked::integer(input) {
        assert_eq!(marked::integer(&marked::of_integer(number)), Some(number));
    }
}
