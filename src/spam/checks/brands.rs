//! Names that forgers borrow, and the domains that really belong to them.
//!
//! Only brands whose name is no person's and no everyday word: "Chase" and "Apple" alone are not here.

use crate::spam::facts::organisation;

pub(super) struct Brand {
    /// As words of a folded display name.
    pub words: &'static [&'static str],
    /// The first label of the brand's own registered domains; with a `*`, what it begins with.
    pub owned: &'static [&'static str],
}

impl Brand {
    /// Is this one of the brand's own domains, by its name?
    pub fn owns(&self, domain: &str) -> bool {
        let name = organisation(domain).split('.').next().unwrap_or_default();
        self.owned.iter().any(|own| own.strip_suffix('*').map_or(name == *own, |start| name.starts_with(start)))
    }
}

const BRANDS: &[Brand] = &[
    Brand { words: &["paypal"], owned: &["paypal"] },
    Brand {
        words: &["microsoft", "office 365", "office365", "outlook team", "onedrive", "sharepoint"],
        owned: &[
            "microsoft",
            "microsoftonline",
            "office",
            "office365",
            "outlook",
            "hotmail",
            "live",
            "sharepoint",
            "sharepointonline",
            "msn",
            "azure",
            "xbox",
            "skype",
            "windows",
            "onmicrosoft",
        ],
    },
    Brand { words: &["amazon", "amazon prime"], owned: &["amazon", "amazonaws", "amazonses", "amzn", "aws", "primevideo"] },
    Brand { words: &["apple id", "apple support", "icloud"], owned: &["apple", "icloud"] },
    Brand { words: &["google"], owned: &["google", "googlemail", "googleusercontent", "youtube", "gmail", "withgoogle"] },
    Brand { words: &["netflix"], owned: &["netflix"] },
    Brand {
        words: &["facebook", "instagram", "whatsapp"],
        owned: &["facebook", "instagram", "whatsapp", "facebookmail", "meta", "fb"],
    },
    Brand { words: &["linkedin"], owned: &["linkedin"] },
    Brand { words: &["docusign"], owned: &["docusign"] },
    Brand { words: &["dropbox"], owned: &["dropbox", "dropboxmail"] },
    Brand { words: &["dhl", "deutsche post"], owned: &["dhl", "deutschepost", "dpdhl"] },
    Brand { words: &["fedex"], owned: &["fedex"] },
    Brand { words: &["usps"], owned: &["usps"] },
    Brand { words: &["coinbase"], owned: &["coinbase"] },
    Brand { words: &["binance"], owned: &["binance"] },
    Brand { words: &["metamask"], owned: &["metamask"] },
    Brand { words: &["trust wallet", "trustwallet"], owned: &["trustwallet"] },
    Brand { words: &["mcafee"], owned: &["mcafee"] },
    Brand {
        words: &["norton antivirus", "norton 360", "norton security", "norton lifelock"],
        owned: &["norton", "lifelock", "gendigital"],
    },
    Brand { words: &["sparkasse"], owned: &["sparkasse*", "s-*", "ksk*", "spk*"] },
    Brand { words: &["volksbank"], owned: &["volksbank*", "vr", "vr-*", "vrbank*", "voba*"] },
    Brand { words: &["commerzbank"], owned: &["commerzbank"] },
    Brand { words: &["postbank"], owned: &["postbank"] },
    Brand { words: &["bradesco"], owned: &["bradesco"] },
    Brand { words: &["santander"], owned: &["santander"] },
    Brand { words: &["wells fargo", "wellsfargo"], owned: &["wellsfargo", "wellsfargoemail"] },
    Brand { words: &["bank of america"], owned: &["bankofamerica", "bofa"] },
    Brand { words: &["american express"], owned: &["americanexpress", "aexp"] },
    Brand { words: &["walmart"], owned: &["walmart"] },
    Brand { words: &["costco"], owned: &["costco"] },
    Brand { words: &["ionos"], owned: &["ionos", "1und1", "1and1"] },
];

/// The brand whose name stands as words in a folded text.
pub(super) fn named_in(folded: &str) -> Option<&'static Brand> {
    let bounded = |at: usize, word: &str| {
        let letter = |letter: char| letter.is_alphanumeric();
        !folded[..at].ends_with(letter) && !folded[at + word.len()..].starts_with(letter)
    };
    let named = |brand: &&Brand| brand.words.iter().any(|word| folded.match_indices(word).any(|(at, _)| bounded(at, word)));
    BRANDS.iter().find(named)
}

/// The brand whose own domain this is; none for those whose customers have mailboxes there, or that write through many
/// services, since mail from them comes from everywhere.
pub(super) fn owner_of(domain: &str) -> Option<&'static Brand> {
    const OPEN: [&str; 5] = ["microsoft", "google", "apple id", "sparkasse", "volksbank"];
    let closed = |brand: &&Brand| !brand.words.iter().any(|word| OPEN.contains(word));
    BRANDS.iter().filter(closed).find(|brand| brand.owns(domain))
}

/// The brand that a host pretends to be: its name as a label or a part of one, below somebody else's domain.
pub(super) fn imitated_by(host: &str) -> Option<&'static Brand> {
    const DISTINCT: [&str; 16] = [
        "paypal",
        "microsoft",
        "office365",
        "amazon",
        "icloud",
        "netflix",
        "facebook",
        "instagram",
        "whatsapp",
        "docusign",
        "coinbase",
        "binance",
        "metamask",
        "trustwallet",
        "sparkasse",
        "bradesco",
    ];
    let part = DISTINCT.iter().find(|part| host.split(['.', '-']).any(|label| label == **part))?;
    let brand = BRANDS.iter().find(|brand| brand.words.contains(part))?;
    (!brand.owns(host)).then_some(brand)
}

/// Local parts that are also words of everyday subjects.
pub(super) fn is_role(local: &str) -> bool {
    const ROLES: [&str; 22] = [
        "info",
        "sales",
        "office",
        "support",
        "contact",
        "service",
        "admin",
        "mail",
        "hello",
        "team",
        "news",
        "newsletter",
        "post",
        "webmaster",
        "postmaster",
        "jobs",
        "press",
        "order",
        "orders",
        "users",
        "list",
        "announce",
    ];
    ROLES.contains(&local)
}
