//! Checks of attachments: one for each [`Sign`] that rules ask for, and those that ask the text as well.

use crate::spam::facts::{Facts, Sign, extension, runs};

pub(super) fn attachment_double_extension(facts: &Facts) -> Option<String> {
    const SHOWN: [&str; 20] = [
        "pdf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "txt", "rtf", "jpg", "jpeg", "png", "gif", "mp3", "mp4", "csv",
        "htm", "html", "odt", "zip",
    ];
    let double = |name: &&String| {
        let name = name.rsplit_once('/').map_or(name.as_str(), |(_, last)| last);
        let Some((stem, last)) = name.rsplit_once('.') else { return false };
        runs(last.trim()) && SHOWN.contains(&extension(stem.trim_end()))
    };
    facts.mime.attachments.iter().flat_map(|attachment| &attachment.names).find(double).cloned()
}

pub(super) fn attachment_locked_archive(facts: &Facts) -> Option<String> {
    // Their headers are not read, but they are sent for one reason only.
    const UNREAD: [&str; 3] = ["ace", "arj", "lzh"];
    let unread = facts.mime.attachments.iter().find(|attachment| attachment.has_extension(&UNREAD));
    let archive = sign(facts, Sign::Encrypted).or_else(|| unread.map(|attachment| attachment.names[0].clone()))?;
    tells_password(&facts.folded.text).then_some(archive)
}

pub(super) fn attachment_locked_document(facts: &Facts) -> Option<String> {
    let document = sign(facts, Sign::EncryptedDocument)?;
    tells_password(&facts.folded.text).then_some(document)
}

/// The word for it, soon followed by one that has a digit: "password: 1234", "das Passwort lautet k7d2".
fn tells_password(text: &str) -> bool {
    const WORDS: [&str; 24] = [
        "password",
        "passwd",
        "passcode",
        "pass code",
        "pwd",
        "pass:",
        "passwort",
        "kennwort",
        "mot de passe",
        "contraseña",
        "contrasena",
        "clave",
        "wachtwoord",
        "пароль",
        "hasło",
        "haslo",
        "heslo",
        "senha",
        "adgangskode",
        "lösenord",
        "salasana",
        "パスワード",
        "密码",
        "密碼",
    ];
    /// Words between it and the password, as in "password for the archive is".
    const BETWEEN: usize = 6;
    let Some(seeker) = aho_corasick::AhoCorasick::new(WORDS).ok() else { return false };
    seeker.find_iter(text).any(|found| {
        let after = crate::spam::text::prefix(&text[found.end()..], 120);
        let sentence = after.split(['.', '!', '?']).next().unwrap_or_default();
        let words = sentence.split([' ', ':', '=', '：', '(', ')', '"', '\'', '[', ']']).filter(|word| !word.is_empty());
        words.take(BETWEEN).any(is_password)
    })
}

fn is_password(word: &str) -> bool {
    let word = word.trim_matches(|letter: char| !letter.is_alphanumeric());
    let letters = word.chars().count();
    let date = word.contains(['/', '-']) && word.chars().all(|letter| letter.is_ascii_digit() || matches!(letter, '/' | '-'));
    (3..=24).contains(&letters) && word.contains(|letter: char| letter.is_ascii_digit()) && !date && !word.contains("://")
        || word == "infected"
}

pub(super) fn attachment_disguised_program(facts: &Facts) -> Option<String> {
    sign(facts, Sign::DisguisedProgram)
}

pub(super) fn attachment_active_page(facts: &Facts) -> Option<String> {
    sign(facts, Sign::ActivePage)
}

pub(super) fn attachment_encrypted(facts: &Facts) -> Option<String> {
    sign(facts, Sign::Encrypted)
}

pub(super) fn attachment_encrypted_document(facts: &Facts) -> Option<String> {
    sign(facts, Sign::EncryptedDocument)
}

pub(super) fn attachment_disguised_archive(facts: &Facts) -> Option<String> {
    sign(facts, Sign::DisguisedArchive)
}

pub(super) fn attachment_disguised_page(facts: &Facts) -> Option<String> {
    sign(facts, Sign::DisguisedPage)
}

pub(super) fn attachment_other_type(facts: &Facts) -> Option<String> {
    sign(facts, Sign::OtherType)
}

pub(super) fn attachment_lying_name(facts: &Facts) -> Option<String> {
    sign(facts, Sign::LyingName)
}

pub(super) fn attachment_packed_program(facts: &Facts) -> Option<String> {
    sign(facts, Sign::PackedProgram)
}

pub(super) fn attachment_packed_script(facts: &Facts) -> Option<String> {
    sign(facts, Sign::PackedScript)
}

pub(super) fn attachment_packed_image(facts: &Facts) -> Option<String> {
    sign(facts, Sign::PackedImage)
}

pub(super) fn attachment_packed_page(facts: &Facts) -> Option<String> {
    sign(facts, Sign::PackedPage)
}

pub(super) fn attachment_tiny_program(facts: &Facts) -> Option<String> {
    sign(facts, Sign::TinyProgram)
}

pub(super) fn attachment_macros(facts: &Facts) -> Option<String> {
    sign(facts, Sign::Macros)
}

pub(super) fn attachment_auto_macros(facts: &Facts) -> Option<String> {
    sign(facts, Sign::AutoMacros)
}

pub(super) fn attachment_old_macros(facts: &Facts) -> Option<String> {
    sign(facts, Sign::OldMacros)
}

pub(super) fn attachment_remote_template(facts: &Facts) -> Option<String> {
    sign(facts, Sign::RemoteTemplate)
}

pub(super) fn attachment_active_object(facts: &Facts) -> Option<String> {
    sign(facts, Sign::ActiveObject)
}

pub(super) fn attachment_notebook_file(facts: &Facts) -> Option<String> {
    sign(facts, Sign::NotebookFile)
}

pub(super) fn attachment_pdf_script(facts: &Facts) -> Option<String> {
    sign(facts, Sign::PdfScript)
}

pub(super) fn attachment_pdf_launch(facts: &Facts) -> Option<String> {
    sign(facts, Sign::PdfLaunch)
}

pub(super) fn attachment_pdf_opens_site(facts: &Facts) -> Option<String> {
    sign(facts, Sign::PdfOpensSite)
}

pub(super) fn attachment_pdf_program(facts: &Facts) -> Option<String> {
    sign(facts, Sign::PdfProgram)
}

pub(super) fn attachment_pdf_encrypted(facts: &Facts) -> Option<String> {
    sign(facts, Sign::PdfEncrypted)
}

pub(super) fn attachment_pdf_disguised(facts: &Facts) -> Option<String> {
    sign(facts, Sign::PdfDisguised)
}

pub(super) fn attachment_smuggling(facts: &Facts) -> Option<String> {
    sign(facts, Sign::Smuggling)
}

pub(super) fn attachment_password_page(facts: &Facts) -> Option<String> {
    sign(facts, Sign::PasswordPage)
}

pub(super) fn attachment_redirect(facts: &Facts) -> Option<String> {
    sign(facts, Sign::Redirect)
}

pub(super) fn attachment_active_image(facts: &Facts) -> Option<String> {
    sign(facts, Sign::ActiveImage)
}

pub(super) fn attachment_bound(facts: &Facts) -> Option<String> {
    sign(facts, Sign::Bound)
}

pub(super) fn attachment_bomb(facts: &Facts) -> Option<String> {
    sign(facts, Sign::Bomb)
}

fn sign(facts: &Facts, sign: Sign) -> Option<String> {
    facts.mime.attachments.iter().find_map(|attachment| attachment.sign(sign)).map(str::to_owned)
}
