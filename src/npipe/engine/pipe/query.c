#include "pipe/query.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/identity.h"
#include "base/platform.h"
#include "base/socket.h"
#include "base/wait.h"
#include "pipe/answer.h"
#include "pipe/dial.h"
#include "pipe/directory.h"
#include "pipe/messages.h"

#define QUERY_PATIENCE_NS INT64_C(1000000000)
/* A listing asks the next owner of a pipe too when one has been silent for so long, */
#define NEXT_OWNER_NS INT64_C(50000000)
/* and when nobody else can be asked any more, it gives up the one that was asked first. */
#define CROWD_PATIENCE_NS INT64_C(20000000)
/* for a whole listing: somebody may own any number of pipes and say nothing */
#define LISTING_NS INT64_C(1000000000)
#define MOST_ASKED 1024                    /* owners at a time, and a quarter of the descriptors at most */

uint32_t np_query_instances(const char *root, const char *folder, uint32_t id, uint32_t *instances)
{
    const struct npw_request request = {.magic = NPW_MAGIC, .version = NPW_VERSION, .kind = NPW_QUERY};
    char names[NPF_SLOTS][NPF_SOCKET_SIZE];
    int dirfd;
    *instances = 0;
    uint32_t code = np_folder_look(root, folder, &dirfd, NULL);
    if (code != NP_OK)
        return code;
    uint32_t count = np_folder_sockets(dirfd, names, NPF_SLOTS);
    code = NP_FILE_NOT_FOUND;
    struct np_wait wait = {.deadline = np_now() + QUERY_PATIENCE_NS}; /* for all of them */
    for (uint32_t i = 0; i < count && code != NP_OK; i++) {
        int socket = np_socket_connect(dirfd, names[i], wait.deadline), fd;
        if (socket < 0)
            continue;
        struct {
            struct npw_answer answer;
            char name[NPW_NAME_SIZE];
        } message;
        bool answered = np_send_message(socket, &request, sizeof request, -1) > 0 &&
                        np_socket_wait(socket, wait.deadline) == NP_OK;
        ssize_t got = answered ? np_receive_message(socket, &message, sizeof message, &fd) : -1;
        if (answered)
            np_fd_close(fd);
        if (got >= (ssize_t)sizeof message.answer && message.answer.magic == NPW_MAGIC &&
            message.answer.version == NPW_VERSION) {
            code = message.answer.code;
            if (code == NP_OK && message.answer.queried_id == id)
                *instances = message.answer.instances; /* else the pipe has gone, and this is another of its name */
        }
        np_hang_up(socket);
    }
    np_fd_close(dirfd);
    return code;
}

/* A folder of the root, while its owners are asked. */
struct listed {
    char *name;
    uid_t uid;
    char (*sockets)[NPF_SOCKET_SIZE];
    uint32_t count, next;
    uint32_t asked;    /* who have not answered yet */
    int64_t next_due;  /* when the next one is asked even so */
    bool answered, silent, dead;
};

struct question {
    uint32_t folder; /* index */
    int64_t began;
    struct np_credentials owner;
};

struct listing_work {
    int rootfd;
    struct listed *folders;
    uint32_t n_folders;
    int sockets[MOST_ASKED];
    bool ready[MOST_ASKED];
    struct question questions[MOST_ASKED];
    uint32_t n_questions, most; /* the oldest first */
    np_list_fn each;
    void *context;
    bool wanted;
};

static int open_folder(int rootfd, const char *name)
{
    np_fds_hold();
    return np_fd_made(openat(rootfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

static bool add_folder(struct listing_work *work, const char *name)
{
    int dirfd = open_folder(work->rootfd, name);
    if (dirfd < 0)
        return true; /* not a pipe's folder, or not for us */
    if (work->n_folders % 64 == 0) {
        struct listed *more = realloc(work->folders, (work->n_folders + 64) * sizeof *more);
        if (!more) {
            np_fd_close(dirfd);
            return false;
        }
        work->folders = more;
    }
    char sockets[NPF_SLOTS][NPF_SOCKET_SIZE];
    struct stat status;
    struct listed *folder = &work->folders[work->n_folders];
    *folder = (struct listed){.uid = fstat(dirfd, &status) == 0 ? status.st_uid : (uid_t)-1};
    folder->count = np_folder_sockets(dirfd, sockets, NPF_SLOTS);
    np_fd_close(dirfd);
    folder->dead = folder->count == 0;
    folder->name = strdup(name);
    folder->sockets = malloc((folder->count + 1) * sizeof *sockets);
    if (!folder->name || !folder->sockets) {
        free(folder->name);
        free(folder->sockets);
        return false;
    }
    memcpy(folder->sockets, sockets, folder->count * sizeof *sockets);
    work->n_folders++;
    return true;
}

static void end_question(struct listing_work *work, uint32_t which)
{
    work->folders[work->questions[which].folder].asked--;
    np_hang_up(work->sockets[which]);
    work->n_questions--;
    memmove(work->sockets + which, work->sockets + which + 1, (work->n_questions - which) * sizeof *work->sockets);
    memmove(work->ready + which, work->ready + which + 1, (work->n_questions - which) * sizeof *work->ready);
    memmove(work->questions + which, work->questions + which + 1,
            (work->n_questions - which) * sizeof *work->questions);
}

/* Asks the folder's next owner, which never waits. False: no descriptor is left for it. */
static bool ask_next(struct listing_work *work, uint32_t index)
{
    static const struct npw_request request = {.magic = NPW_MAGIC, .version = NPW_VERSION, .kind = NPW_QUERY};
    struct listed *folder = &work->folders[index];
    int dirfd = open_folder(work->rootfd, folder->name);
    if (dirfd < 0 && (errno == EMFILE || errno == ENFILE))
        return false;
    int64_t now = np_now();
    int socket = dirfd < 0 ? -ENOENT : np_socket_connect(dirfd, folder->sockets[folder->next], now);
    np_fd_close(dirfd);
    if (socket == -EMFILE || socket == -ENFILE)
        return false;
    folder->next++;
    if (socket < 0) {
        folder->dead = folder->dead || socket == -ECONNREFUSED;
        folder->silent = folder->silent || socket == -EAGAIN;
        return true;
    }
    struct question *question = &work->questions[work->n_questions];
    *question = (struct question){.folder = index, .began = now};
    if (!np_peer_credentials(socket, false, &question->owner) || !np_leads_home(folder->uid, question->owner.uid) ||
        np_send_message(socket, &request, sizeof request, -1) <= 0) {
        np_hang_up(socket);
        return true;
    }
    folder->next_due = now + NEXT_OWNER_NS;
    folder->asked++;
    work->sockets[work->n_questions++] = socket;
    return true;
}

static void take_listing(struct listing_work *work, uint32_t which)
{
    const struct question *question = &work->questions[which];
    struct listed *folder = &work->folders[question->folder];
    struct {
        struct npw_answer answer;
        char name[NPW_NAME_SIZE];
    } message;
    struct np_listing listing;
    int fd;
    ssize_t got = np_receive_message(work->sockets[which], &message, sizeof message, &fd);
    np_fd_close(fd);
    if (folder->answered || got < (ssize_t)sizeof message.answer || message.answer.magic != NPW_MAGIC ||
        message.answer.code != NP_OK || message.answer.version != NPW_VERSION ||
        message.answer.name_size > got - (ssize_t)sizeof message.answer || !np_answer_makes_sense(&message.answer))
        return;
    folder->answered = true;
    listing.answer = message.answer;
    listing.folder = folder->name;
    listing.uid = question->owner.uid;
    memcpy(listing.name, message.name, message.answer.name_size);
    listing.name[message.answer.name_size] = 0;
    work->wanted = work->wanted && work->each(work->context, &listing);
}

/* Asks whoever is to be asked now. When to go on with that, NP_FOREVER: all have been asked who will be. */
static int64_t ask_more(struct listing_work *work)
{
    int64_t next = NP_FOREVER, now = np_now();
    for (uint32_t i = 0; i < work->n_folders; i++) {
        struct listed *folder = &work->folders[i];
        while (!folder->answered && folder->next < folder->count && (folder->asked == 0 || folder->next_due <= now)) {
            if (work->n_questions == work->most || !ask_next(work, i)) {
                if (work->n_questions == 0)
                    return next; /* no descriptor is left, and none will come back from here */
                int64_t patience = work->questions[0].began + CROWD_PATIENCE_NS;
                if (patience > now)
                    return patience < next ? patience : next;
                work->folders[work->questions[0].folder].silent = true;
                end_question(work, 0);
            }
        }
        if (!folder->answered && folder->next < folder->count && folder->next_due < next)
            next = folder->next_due;
    }
    return next;
}

static uint32_t ask_all(struct listing_work *work, int64_t deadline, const struct np_wait *wait)
{
    for (;;) {
        int64_t next = ask_more(work);
        if (work->n_questions == 0 && next == NP_FOREVER)
            return NP_OK;
        uint32_t code = np_sockets_ready(work->sockets, work->ready, work->n_questions,
                                         next < deadline ? next : deadline);
        if (code == NP_INTERRUPTED && np_is_interrupted(wait))
            return code;
        if (code == NP_NOT_ENOUGH_MEMORY)
            return code;
        for (uint32_t i = work->n_questions; code == NP_OK && i-- > 0;)
            if (work->ready[i]) {
                take_listing(work, i);
                end_question(work, i);
            }
        if (!work->wanted || np_now() >= deadline)
            return NP_OK;
    }
}

/* What the page says of a pipe whose owners are silent. */
static bool listing_of_page(int rootfd, const struct listed *folder, struct np_listing *listing)
{
    struct npf_page page;
    struct stat status;
    int dirfd = open_folder(rootfd, folder->name);
    int fd = -1;
    if (dirfd >= 0) {
        np_fds_hold();
        fd = np_fd_made(openat(dirfd, "pipe", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    }
    /* Read, not mapped: it may be cut short at any time. */
    bool whole = fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == folder->uid &&
                 pread(fd, &page, sizeof page, 0) == (ssize_t)sizeof page;
    np_fd_close(fd);
    np_fd_close(dirfd);
    if (!whole || page.magic != NPF_MAGIC || page.version != NPF_VERSION || page.name_size > NPF_NAME_SIZE ||
        page.name_size > NPW_NAME_SIZE)
        return false;
    *listing = (struct np_listing){
        .answer = {.type = page.type,
                   .direction = page.direction,
                   .max_instances = page.max_instances,
                   .name_size = page.name_size},
        .uid = folder->uid,
        .folder = folder->name,
    };
    if (!np_answer_makes_sense(&listing->answer))
        return false;
    for (int i = 0; i < NPF_SLOTS; i++) {
        if (atomic_load_explicit(&page.slot[i].id, memory_order_relaxed) == 0)
            continue;
        listing->answer.instances += atomic_load_explicit(&page.slot[i].instances, memory_order_relaxed);
        listing->answer.owner_pid = listing->answer.owner_pid ? listing->answer.owner_pid : page.slot[i].pid;
    }
    memcpy(listing->name, page.name, page.name_size);
    return listing->answer.owner_pid != 0;
}

static void end_listing(struct listing_work *work)
{
    while (work->n_questions)
        end_question(work, work->n_questions - 1);
    for (uint32_t i = 0; i < work->n_folders; i++) {
        free(work->folders[i].name);
        free(work->folders[i].sockets);
    }
    free(work->folders);
    free(work);
}

uint32_t np_list(const char *root, np_list_fn each, void *context, const struct np_wait *wait, char *why)
{
    int64_t deadline = np_now() + LISTING_NS;
    int rootfd;
    if (!np_settle_identity())
        return NP_PRIVILEGE_NOT_HELD;
    uint32_t code = np_root_open(root, false, &rootfd, why);
    if (code == NP_FILE_NOT_FOUND)
        return NP_OK; /* no root, no pipes */
    if (code != NP_OK)
        return code;
    DIR *list = fdopendir(rootfd);
    struct listing_work *work = calloc(1, sizeof *work);
    if (!list || !work) {
        if (list)
            np_fd_close_list(list);
        else
            np_fd_close(rootfd);
        free(work);
        return NP_NOT_ENOUGH_MEMORY;
    }
    uint64_t quarter = np_descriptor_limit() / 4;
    work->rootfd = rootfd;
    work->most = quarter > MOST_ASKED ? MOST_ASKED : quarter ? (uint32_t)quarter : 1;
    work->each = each;
    work->context = context;
    work->wanted = true;
    for (struct dirent *entry; code == NP_OK && (entry = readdir(list));)
        if (entry->d_name[0] != '.' && !add_folder(work, entry->d_name))
            code = NP_NOT_ENOUGH_MEMORY;
    if (code == NP_OK)
        code = ask_all(work, deadline, wait);
    for (uint32_t i = 0; i < work->n_folders && code == NP_OK && work->wanted; i++) {
        struct listed *folder = &work->folders[i];
        struct np_listing listing;
        if (!folder->answered && (folder->silent || folder->asked || folder->next < folder->count) &&
            listing_of_page(rootfd, folder, &listing))
            work->wanted = each(context, &listing);
        if (folder->dead && np_now() < deadline)
            np_folder_sweep(root, folder->name, 0);
    }
    end_listing(work);
    np_fd_close_list(list);
    return code;
}
