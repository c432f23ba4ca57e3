//! Whose a domain is: the name under the public suffix, by the Public Suffix List with its private part. So `mail.sender.co.uk` is
//! `sender.co.uk`'s, and a host of a cloud where anybody can have one is nobody's but its own.

use crate::mail::Domain;

/// `None` for a public suffix itself, and for a name without any.
pub(super) fn organisation(domain: &Domain) -> Option<Domain> {
    let organisation = psl::domain_str(domain.as_str())?;
    Domain::parse(organisation).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn organisations_stand_under_a_public_suffix() {
        let of = |name| organisation(&Domain::parse(name).unwrap()).map(|domain| domain.to_string());
        assert_eq!(of("mail.sender.example").as_deref(), Some("sender.example"));
        assert_eq!(of("sender.example").as_deref(), Some("sender.example"));
        assert_eq!(of("a.b.sender.co.uk").as_deref(), Some("sender.co.uk"));
        assert_eq!(of("www.食狮.公司.cn").as_deref(), Some("xn--85x722f.xn--55qx5d.cn"));
        assert_eq!(of("co.uk"), None);
        assert_eq!(of("localhost"), None);
    }
}
