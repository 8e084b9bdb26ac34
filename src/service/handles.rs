//! The handles through which the use cases are called: each owns its file and borrows what it needs.

#[cfg(feature = "test-support")]
use super::TestSupport;
use super::attachments::Attachments;
use super::create_account::AccountCreation;
use super::cursors::RowCursors;
use super::file_eraser::FileEraser;
use super::file_sweep::FileSweep;
use super::first_boot::FirstBoot;
use super::passwords::Passwords;
use super::throttle::Throttle;
use super::{
    Accounts, Assets, Deletions, Directory, FileWorks, Links, Markers, Members, Messages,
    OwnerNotices, PendingUpdates, Presences, ReadBarrier, ResumeCursors, Roles, RoomFiles, Rooms,
    Server, ServerImages, Service, Sessions, SignUp, Sweeper, Timeline, Typing, Uploads, Users,
    Variants,
};

impl Service {
    /// Accounts as the operator manages them.
    #[must_use]
    pub fn accounts(&self) -> Accounts<'_> {
        Accounts {
            storage: &self.inner.storage,
            barrier: self.read_barrier(),
            creation: self.account_creation(),
            links: self.links(),
            users: self.users(),
            passwords: self.passwords(),
            throttle: self.throttle(),
        }
    }

    /// Files as viewers get them.
    #[must_use]
    pub fn assets(&self) -> Assets<'_> {
        Assets {
            storage: &self.inner.storage,
            blobs: &self.inner.blobs,
            clock: &self.inner.clock,
            key: &self.inner.keys.assets,
            attachments: self.attachments(),
        }
    }

    /// Deleting messages and attachments.
    #[must_use]
    pub fn deletions(&self) -> Deletions<'_> {
        Deletions {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            eraser: self.file_eraser(),
        }
    }

    /// Work of operators on all files.
    #[must_use]
    pub fn file_works(&self) -> FileWorks<'_> {
        FileWorks {
            storage: &self.inner.storage,
            blobs: &self.inner.blobs,
            part_slots: &self.inner.part_slots,
            clock: &self.inner.clock,
            step_slots: &self.inner.file_step_slots,
            between: &self.inner.between_file_steps,
        }
    }

    /// The rooms and groups that a viewer may know of.
    #[must_use]
    pub fn directory(&self) -> Directory<'_> {
        Directory {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            markers: self.markers(),
        }
    }

    /// Setup and join links: made, listed, revoked.
    #[must_use]
    pub fn links(&self) -> Links<'_> {
        Links {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            barrier: self.read_barrier(),
            tokens: &self.inner.keys.tokens,
        }
    }

    /// Read markers.
    #[must_use]
    pub fn markers(&self) -> Markers<'_> {
        Markers { storage: &self.inner.storage, clock: &self.inner.clock }
    }

    /// The effective members of rooms.
    #[must_use]
    pub fn members(&self) -> Members<'_> {
        Members { storage: &self.inner.storage, users: self.users() }
    }

    /// Posting messages.
    #[must_use]
    pub fn messages(&self) -> Messages<'_> {
        Messages {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            timeline: self.timeline(),
            attachments: self.attachments(),
        }
    }

    /// What owners must know of the server's operation.
    #[must_use]
    pub fn owner_notices(&self) -> OwnerNotices<'_> {
        OwnerNotices { storage: &self.inner.storage, clock: &self.inner.clock }
    }

    /// The presences and typing events that wait for the end of their second.
    #[must_use]
    pub fn pending_updates(&self) -> PendingUpdates<'_> {
        PendingUpdates {
            clock: &self.inner.clock,
            presences: self.presences(),
            typing: self.typing(),
        }
    }

    /// The presence of users.
    #[must_use]
    pub fn presences(&self) -> Presences<'_> {
        Presences {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            known: &self.inner.presences,
            pending: &self.inner.pending_presences,
        }
    }

    /// The read barrier.
    #[must_use]
    pub fn read_barrier(&self) -> ReadBarrier<'_> {
        ReadBarrier { storage: &self.inner.storage, clock: &self.inner.clock }
    }

    /// The cursors with which connections resume.
    #[must_use]
    pub fn resume_cursors(&self) -> ResumeCursors<'_> {
        ResumeCursors {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            key: &self.inner.keys.resume,
        }
    }

    /// The roles of the server.
    #[must_use]
    pub fn roles(&self) -> Roles<'_> {
        Roles { storage: &self.inner.storage }
    }

    /// The files of rooms.
    #[must_use]
    pub fn room_files(&self) -> RoomFiles<'_> {
        RoomFiles {
            storage: &self.inner.storage,
            timeline: self.timeline(),
            attachments: self.attachments(),
        }
    }

    /// Rooms and memberships: made, joined, left.
    #[must_use]
    pub fn rooms(&self) -> Rooms<'_> {
        Rooms {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            barrier: self.read_barrier(),
        }
    }

    /// What is known of the server as a whole.
    #[must_use]
    pub fn server(&self) -> Server<'_> {
        Server { storage: &self.inner.storage, config: &self.inner.config }
    }

    /// Images that everybody may see.
    #[must_use]
    pub fn server_images(&self) -> ServerImages<'_> {
        ServerImages {
            storage: &self.inner.storage,
            blobs: &self.inner.blobs,
            clock: &self.inner.clock,
            images: &self.inner.images,
            assets: self.assets(),
            variants: self.variants(),
            eraser: self.file_eraser(),
        }
    }

    /// Log-in, authentication, log-out.
    #[must_use]
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            barrier: self.read_barrier(),
            config: &self.inner.config,
            keys: &self.inner.keys,
            passwords: self.passwords(),
            throttle: self.throttle(),
        }
    }

    /// Accounts made with setup and join links.
    #[must_use]
    pub fn sign_up(&self) -> SignUp<'_> {
        SignUp {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            barrier: self.read_barrier(),
            links: self.links(),
            creation: self.account_creation(),
            sessions: self.sessions(),
            passwords: self.passwords(),
            throttle: self.throttle(),
        }
    }

    /// Cleans up what killed processes left behind.
    #[must_use]
    pub fn sweeper(&self) -> Sweeper<'_> {
        Sweeper {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            rooms: self.rooms(),
            files: FileSweep {
                storage: &self.inner.storage,
                clock: &self.inner.clock,
                attachments: self.attachments(),
                eraser: self.file_eraser(),
                works: self.file_works(),
                recent_swept: &self.inner.recent_files_swept,
            },
            orphans: &self.inner.orphans,
        }
    }

    /// The timelines of rooms.
    #[must_use]
    pub fn timeline(&self) -> Timeline<'_> {
        Timeline {
            storage: &self.inner.storage,
            cursors: RowCursors { key: &self.inner.keys.cursors },
            users: self.users(),
            opened: &self.inner.opened_rows,
            attachments: self.attachments(),
        }
    }

    /// Typing events.
    #[must_use]
    pub fn typing(&self) -> Typing<'_> {
        Typing {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            pending: &self.inner.pending_typing,
        }
    }

    /// Files that may be streamed in at a time.
    #[must_use]
    pub fn upload_streams_max(&self) -> usize {
        self.inner.config.upload_streams
    }

    /// Uploads of files.
    #[must_use]
    pub fn uploads(&self) -> Uploads<'_> {
        Uploads {
            storage: &self.inner.storage,
            blobs: &self.inner.blobs,
            clock: &self.inner.clock,
            staged_slots: &self.inner.staged_slots,
            part_slots: &self.inner.part_slots,
            eraser: self.file_eraser(),
            max_bytes: self.inner.config.max_upload_bytes,
        }
    }

    /// The users of the server, as a viewer sees them.
    #[must_use]
    pub fn users(&self) -> Users<'_> {
        Users {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            presences: &self.inner.presences,
        }
    }

    /// Variants of images.
    #[must_use]
    pub fn variants(&self) -> Variants<'_> {
        Variants { blobs: &self.inner.blobs, images: &self.inner.images }
    }

    /// What tests of clients may do.
    #[cfg(feature = "test-support")]
    #[must_use]
    pub fn test_support(&self) -> TestSupport<'_> {
        TestSupport { service: self }
    }

    /// Files of messages.
    pub(super) fn attachments(&self) -> Attachments<'_> {
        Attachments { storage: &self.inner.storage, clock: &self.inner.clock }
    }

    /// Removes files.
    pub(super) fn file_eraser(&self) -> FileEraser<'_> {
        FileEraser { storage: &self.inner.storage, blobs: &self.inner.blobs }
    }

    /// Creates accounts.
    pub(super) fn account_creation(&self) -> AccountCreation<'_> {
        AccountCreation {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            barrier: self.read_barrier(),
            config: &self.inner.config,
        }
    }

    /// The defaults of a new server.
    pub(super) fn first_boot(&self) -> FirstBoot<'_> {
        FirstBoot {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            barrier: self.read_barrier(),
            rooms: self.rooms(),
            accounts: self.accounts(),
        }
    }

    /// Hashes passwords.
    pub(super) fn passwords(&self) -> Passwords<'_> {
        Passwords {
            storage: &self.inner.storage,
            slots: &self.inner.password_slots,
            params: self.inner.config.password_params,
        }
    }

    /// Throttling of log-ins and of uses of links.
    pub(super) fn throttle(&self) -> Throttle<'_> {
        Throttle {
            storage: &self.inner.storage,
            clock: &self.inner.clock,
            key: &self.inner.keys.counters,
            attempts: &self.inner.attempts,
        }
    }
}
