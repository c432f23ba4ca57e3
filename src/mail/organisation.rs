//! The organisational domain: what somebody registered, below which all names are theirs (`mail.shop.example.co.uk` belongs to
//! `example.co.uk`). By the Public Suffix List that the psl crate carries, so it is as old as the build. For telling senders
//! apart; DMARC finds its organisational domain by asking DNS (RFC 9989 §4.10) and does not use this.

use super::Domain;

impl Domain {
    /// The domain itself where it is a public suffix or a lone label: then there is nobody above it to belong to.
    pub fn organisation(&self) -> Domain {
        let registered = psl::domain_str(self.as_str()).and_then(|domain| Domain::parse(domain).ok());
        registered.unwrap_or_else(|| self.clone())
    }

    /// Whether this is `parent` or a name below it.
    pub fn is_within(&self, parent: &Domain) -> bool {
        let above = self.as_str().strip_suffix(parent.as_str());
        above.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    #[test]
    fn names_belong_to_who_registered_the_domain() {
        let case = |name: &str| domain(name).organisation().to_string();
        assert_eq!(case("a.b.example.com"), "example.com");
        assert_eq!(case("mail.shop.example.co.uk"), "example.co.uk");
        assert_eq!(case("example.co.uk"), "example.co.uk");
        assert_eq!(case("co.uk"), "co.uk");
        assert_eq!(case("localhost"), "localhost");
        assert_eq!(case("joe.github.io"), "joe.github.io");
        assert_eq!(case("out.sender.example"), "sender.example");
    }

    #[test]
    fn a_name_lies_within_its_parents_only() {
        assert!(domain("a.example.com").is_within(&domain("example.com")));
        assert!(domain("example.com").is_within(&domain("example.com")));
        assert!(!domain("badexample.com").is_within(&domain("example.com")));
        assert!(!domain("example.com").is_within(&domain("a.example.com")));
    }
}
