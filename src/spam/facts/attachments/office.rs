//! What is dangerous in Office documents that are zips (OOXML, ECMA-376), and in RTF.
//!
//! Macros lie in a part of their own; what a document fetches from elsewhere stands in its relationships. The text is not
//! read.

use super::bytes::has;
use super::zip::Entry;
use super::{Member, Reader, Sign, ole, runs};

/// Relationship parts looked into.
const RELATIONS_MAX: usize = 8;

impl Reader<'_> {
    pub(super) fn office_package(&mut self, path: &str, bytes: &[u8], entries: &[Entry]) {
        // The parts of a document are not named to rules, except those that are dangerous.
        for entry in entries {
            let dangerous = entry.name.ends_with("vbaproject.bin") || runs(super::extension(&entry.name));
            if dangerous && self.attachment.names.len() < super::INSIDE_MAX {
                self.attachment.names.push(format!("{path}/{}", entry.name));
            }
        }
        self.sign_if(entries.iter().any(|entry| entry.name.starts_with("xl/macrosheets/")), Sign::OldMacros, path);
        self.sign_if(entries.iter().any(|entry| entry.encrypted), Sign::Encrypted, path);
        if let Some(entry) = entries.iter().find(|entry| entry.name.ends_with("vbaproject.bin")) {
            self.sign(Sign::Macros, path);
            if let Some(project) = self.member(path, bytes, entry) {
                self.sign_if(ole::starts_by_itself(&project), Sign::AutoMacros, path);
            }
        }
        let relations = entries.iter().filter(|entry| is_relations(&entry.name));
        for entry in relations.take(RELATIONS_MAX) {
            if let Some(relations) = self.member(path, bytes, entry) {
                self.sign_if(fetches(&relations), Sign::RemoteTemplate, path);
            }
        }
    }

    pub(super) fn rtf(&mut self, path: &str, bytes: &[u8]) {
        // Objects that are updated without asking are how exploits of the equation editor are started.
        let active = has(bytes, b"\\objupdate") || has(bytes, b"\\objautlink") || has(bytes, b"\\objhtml");
        self.sign_if(active && has(bytes, b"\\objdata"), Sign::ActiveObject, path);
        let template = memchr::memmem::find(bytes, b"\\*\\template").map(|at| &bytes[at..bytes.len().min(at + 200)]);
        self.sign_if(template.is_some_and(|near| has(near, b"http")), Sign::RemoteTemplate, path);
    }

    /// The list of an archive that cannot be opened further.
    pub(super) fn listed(&mut self, path: &str, names: Vec<String>, encrypted: bool, size: usize) {
        let members: Vec<Member> = names.into_iter().map(|name| Member { name, encrypted }).collect();
        self.members(path, &members, size);
        self.sign_if(encrypted, Sign::Encrypted, path);
    }
}

fn is_relations(name: &str) -> bool {
    const READ: [&str; 5] = [
        "word/_rels/settings.xml.rels",
        "word/_rels/document.xml.rels",
        "xl/_rels/workbook.xml.rels",
        "ppt/_rels/presentation.xml.rels",
        "word/_rels/webSettings.xml.rels",
    ];
    READ.iter().any(|read| read.eq_ignore_ascii_case(name))
}

/// A template, frame or object that is fetched from a web or file server as soon as the document is opened. Links that a
/// reader clicks are external relationships as well, and images are: those do not count.
fn fetches(relations: &[u8]) -> bool {
    let text = relations.to_ascii_lowercase();
    text.split(|byte| *byte == b'>').any(|relation| {
        let kind = [&b"/attachedtemplate\""[..], b"/oleobject\"", b"/frame\"", b"/subdocument\""];
        let elsewhere = [&b"target=\"http"[..], b"target=\"mhtml:", b"target=\"\\\\", b"target=\"file://"];
        has(relation, b"targetmode=\"external\"")
            && kind.iter().any(|kind| has(relation, kind))
            // A template on a disk is where the author's own office has it.
            && elsewhere.iter().any(|place| has(relation, place))
            && !has(relation, b"target=\"file:///")
    })
}
