#include "pipe/ask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/identity.h"
#include "base/platform.h"
#include "base/socket.h"
#include "base/wait.h"
#include "pipe/answer.h"
#include "pipe/dial.h"
#include "pipe/directory.h"

#define ANSWER_NS INT64_C(1000000000)
#define ALL_NS INT64_C(10000000000)
#define MOST_TOLD 131072u /* connections: who lies could go on for as long as there is time */
#define MOST_CONNECTIONS (NPW_DESCRIPTION_SIZE / sizeof(struct npw_connection))

uint32_t np_described(const void *bytes, ssize_t got, uint64_t from, struct np_described *described,
                      struct npw_connection *connections)
{
    struct npw_answer *answer = &described->answer;
    struct npw_details *details = &described->details;
    const uint8_t *at = bytes;
    described->count = 0;
    described->connections = connections;
    if (got < (ssize_t)sizeof *answer)
        return NP_INVALID_DATA;
    memcpy(answer, at, sizeof *answer);
    if (answer->magic != NPW_MAGIC)
        return NP_INVALID_DATA;
    if (answer->version != NPW_VERSION)
        return NP_REVISION_MISMATCH;
    if (answer->code != NP_OK) {
        /* The others are no answers to this question. */
        bool known = answer->code == NP_INVALID_FUNCTION || answer->code == NP_ACCESS_DENIED ||
                     answer->code == NP_REVISION_MISMATCH || answer->code == NP_RETRY ||
                     answer->code == NP_FILE_NOT_FOUND;
        return known ? answer->code : NP_INVALID_DATA;
    }
    size_t size = (size_t)got - sizeof *answer;
    if (answer->kind != NPW_DESCRIBE || !np_answer_makes_sense(answer) || size < sizeof *details)
        return NP_INVALID_DATA;
    memcpy(details, at + sizeof *answer, sizeof *details);
    if (details->size < sizeof *details || details->size > size ||
        details->connection_size < sizeof(struct npw_connection) || details->count > MOST_CONNECTIONS)
        return NP_INVALID_DATA;
    /* Both are at most what a message can be long. */
    if (details->connection_size > NPW_DESCRIPTION_SIZE ||
        (uint64_t)details->count * details->connection_size != size - details->size)
        return NP_INVALID_DATA;
    at += sizeof *answer + details->size;
    uint64_t last = from ? from : UINT64_MAX;
    for (uint32_t i = 0; i < details->count; i++, at += details->connection_size) {
        memcpy(&connections[i], at, sizeof *connections);
        if (connections[i].number >= last || connections[i].number == 0)
            return NP_INVALID_DATA; /* it would never end */
        last = connections[i].number;
    }
    /* Who goes on has told of at least one. */
    if (details->next && (details->count == 0 || details->next != last))
        return NP_INVALID_DATA;
    described->count = details->count;
    return NP_OK;
}

struct asking {
    int dirfd;
    uid_t folder_uid;
    int64_t deadline;
    np_describe_fn each;
    void *context;
    const struct np_wait *wait;
    bool wanted;
    uint32_t told; /* connections so far */
    struct np_described described;
    struct npw_connection connections[MOST_CONNECTIONS];
    char bytes[NPW_DESCRIPTION_SIZE];
};

/* NP_OK: asking->described has the code. NP_FILE_NOT_FOUND: nobody is there. NP_INTERRUPTED. */
static uint32_t ask_one(struct asking *asking, const char *name, uint64_t from)
{
    const struct npw_request request = {.magic = NPW_MAGIC,
                                        .version = NPW_VERSION,
                                        .kind = NPW_DESCRIBE,
                                        .offer = {(uint32_t)from, (uint32_t)(from >> 32)}};
    struct np_described *described = &asking->described;
    struct np_credentials owner;
    const int64_t asked = np_now();
    int64_t until = asked + ANSWER_NS;
    if (asking->deadline < until)
        until = asking->deadline;
    int socket = np_socket_connect(asking->dirfd, name, until);
    if (socket == -EAGAIN || socket == -ETIMEDOUT) {
        described->code = NP_SEM_TIMEOUT;
        return NP_OK;
    }
    if (socket < 0)
        return socket == -EMFILE || socket == -ENFILE ? NP_TOO_MANY_OPEN_FILES : NP_FILE_NOT_FOUND;
    if (!np_peer_credentials(socket, false, &owner) || !np_leads_home(asking->folder_uid, owner.uid)) {
        np_hang_up(socket);
        return NP_FILE_NOT_FOUND; /* somebody else has come to this folder */
    }
    described->pid = owner.pid;
    described->uid = owner.uid;
    uint32_t code = np_send_message(socket, &request, sizeof request, -1) > 0 ? NP_OK : NP_FILE_NOT_FOUND;
    while (code == NP_OK) {
        uint32_t waited = np_socket_wait(socket, until);
        if (waited == NP_INTERRUPTED && np_is_interrupted(asking->wait)) {
            code = NP_INTERRUPTED;
        } else if (waited == NP_SEM_TIMEOUT) {
            described->code = NP_SEM_TIMEOUT;
            break;
        } else if (waited != NP_INTERRUPTED) {
            int fd;
            ssize_t got = np_receive_message(socket, asking->bytes, sizeof asking->bytes, &fd);
            np_fd_close(fd); /* nobody asked for one */
            if (got == -EINTR || got == -EAGAIN)
                continue;
            if (got == 0 || got == -ECONNRESET)
                code = NP_FILE_NOT_FOUND; /* it has just gone */
            else {
                if (described->answer_ns == 0) { /* of its first answer: the others have more to count */
                    int64_t spent = np_now() - asked;
                    described->answer_ns = spent > 0 ? spent : 1;
                }
                described->code = np_described(asking->bytes, got, from, described, asking->connections);
            }
            break;
        }
    }
    np_hang_up(socket);
    return code;
}

/* All that one owner tells. */
static uint32_t ask_owner(struct asking *asking, const char *name)
{
    struct np_described *described = &asking->described;
    memset(described, 0, sizeof *described);
    uint64_t from = 0;
    for (bool first = true; asking->wanted; first = false) {
        uint32_t code = ask_one(asking, name, from);
        if (code == NP_OK && (described->code == NP_RETRY || described->code == NP_FILE_NOT_FOUND))
            code = NP_FILE_NOT_FOUND; /* it closes its last instance just now */
        if (code == NP_FILE_NOT_FOUND && !first) { /* what it has told before stays told */
            described->code = NP_BROKEN_PIPE;
            code = NP_OK;
        }
        if (code != NP_OK)
            return code;
        if (described->code == NP_OK && described->count > MOST_TOLD - asking->told)
            described->code = NP_INVALID_DATA;
        if (described->code != NP_OK) { /* nothing that was not checked, and nothing twice, is told */
            described->count = 0;
            memset(&described->answer, 0, sizeof described->answer);
            memset(&described->details, 0, sizeof described->details);
        }
        asking->told += described->count;
        described->first = first;
        asking->wanted = asking->each(asking->context, described);
        if (described->code != NP_OK || described->details.next == 0)
            return NP_OK;
        from = described->details.next;
    }
    return NP_OK;
}

uint32_t np_ask(const char *root, const char *folder, np_describe_fn each, void *context, const struct np_wait *wait,
                char *why)
{
    char names[NPF_SLOTS][NPF_SOCKET_SIZE];
    struct stat status;
    if (!np_settle_identity())
        return NP_PRIVILEGE_NOT_HELD;
    struct asking *asking = malloc(sizeof *asking);
    if (!asking)
        return NP_NOT_ENOUGH_MEMORY;
    uint32_t code = np_folder_look(root, folder, &asking->dirfd, why);
    if (code != NP_OK) {
        free(asking);
        return code;
    }
    asking->folder_uid = fstat(asking->dirfd, &status) == 0 ? status.st_uid : (uid_t)-1;
    asking->deadline = np_now() + ALL_NS;
    asking->each = each;
    asking->context = context;
    asking->wait = wait;
    asking->wanted = true;
    asking->told = 0;
    uint32_t count = np_folder_sockets(asking->dirfd, names, NPF_SLOTS);
    code = NP_FILE_NOT_FOUND;
    for (uint32_t i = 0; i < count && asking->wanted; i++) {
        uint32_t one = ask_owner(asking, names[i]);
        if (one == NP_OK)
            code = NP_OK;
        else if (one != NP_FILE_NOT_FOUND) {
            code = one;
            break;
        }
    }
    np_fd_close(asking->dirfd);
    free(asking);
    return code;
}
