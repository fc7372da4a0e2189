//! The shell of sealed objects.

use volume_vault::crypto::{Purpose, Signer};
use volume_vault::format::{ObjectKind, open_object, seal_object};

use super::{REPOSITORY, Section, master};

const KINDS: [ObjectKind; 7] = [
    ObjectKind::Segment,
    ObjectKind::Pending,
    ObjectKind::Ok,
    ObjectKind::Forget,
    ObjectKind::Condemn,
    ObjectKind::Config,
    ObjectKind::State,
];

#[test]
fn objects_open_for_ever() {
    let mut section = Section::open("objects");
    let shared = master().derive(Purpose::SharedObject, b"");
    let signer = Signer::from_seed(&master().derive(Purpose::OwnerSigningSeed, b""));
    for kind in KINDS {
        let message = kind.name().as_bytes();
        let bytes = section.kept(kind.name(), || {
            let object = seal_object(kind, &REPOSITORY, &shared, &signer, message);
            object.expect("randomness").to_vec()
        });
        section.is(&format!("{}, kind", kind.name()), kind as u8);
        let signed = open_object(kind, &REPOSITORY, &shared, &bytes).expect("it opens");
        assert_eq!(signed.message, message);
        assert_eq!(signed.signer, signer.verifier());
    }
    section.finish();
}
