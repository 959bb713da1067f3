/* How the two sides of a ring go to sleep and wake each other (blocking/read.c: wait_to_read, blocking/write.c:
 * wait_to_write, ring/tx.c: publish, ring/rx.c: wake_writer, link.c: np_link_wake_sleeper), on a machine whose stores
 * become visible late and in any order.
 *
 * A store goes into a buffer, one for each variable and writer, and becomes visible at any later time: also after
 * loads that follow it, and before older stores of other variables, unless it is a release. A fence waits until the
 * buffers of its process are empty. Payload is stored as well, so that what is read can be checked. An and-or on a
 * word of flags is in the buffer until it happens, and then happens at once.
 *
 * Somebody who sleeps for ever is an invalid end state. The four fences can be left out, each of which has to be
 * found: NO_FENCE_PUBLISH, NO_FENCE_READER, NO_FENCE_COMMIT, NO_FENCE_WRITER. */

#ifndef MESSAGES
#define MESSAGES 4
#endif
#ifndef ROOM
#define ROOM 2 /* entries that the ring holds */
#endif

/* What is visible to both. */
byte data[ROOM], tail, head;
bool reader_sleeps_flag, reader_armed_flag, writer_sleeps_flag;
byte threshold = 255; /* wake_head: of an earlier wait that was for something else */
byte reader_seq, writer_seq;
bool reader_blocked, writer_blocked; /* in the kernel */
bool byte_in_socket;                 /* a full socket is readable: more bytes say no more */

/* Buffered stores. */
bool has_data[ROOM], has_tail, has_threshold, has_writer_flag, has_head, has_reader_flag, has_armed_flag;
byte new_data[ROOM], new_tail, new_threshold, new_head;

#define DATA_VISIBLE (!has_data[0] && !has_data[ROOM - 1])
#define WRITERS_FENCE (DATA_VISIBLE && !has_tail && !has_threshold && !has_writer_flag)
#define READERS_FENCE (!has_head && !has_reader_flag && !has_armed_flag)

active proctype memory()
{
end:
    do
    :: atomic { has_data[0] -> data[0] = new_data[0]; has_data[0] = false }
    :: atomic { has_data[ROOM - 1] -> data[ROOM - 1] = new_data[ROOM - 1]; has_data[ROOM - 1] = false }
    :: atomic { has_tail && DATA_VISIBLE -> tail = new_tail; has_tail = false } /* release */
    :: atomic { has_threshold -> threshold = new_threshold; has_threshold = false }
    :: atomic { has_writer_flag && !has_threshold -> writer_sleeps_flag = true; has_writer_flag = false } /* release */
    :: atomic { has_head -> head = new_head; has_head = false }
    :: atomic { has_reader_flag -> reader_sleeps_flag = true; has_reader_flag = false }
    :: atomic { has_armed_flag -> reader_armed_flag = true; has_armed_flag = false }
    od
}

active proctype writer()
{
    byte position = 0, seen_head, seen_seq;
    bool sleeps, armed;

    do
    :: position == MESSAGES -> break
    :: else ->
room:
        seen_head = head;
        if
        :: position - seen_head < ROOM
        :: else ->
            seen_seq = writer_seq;
            atomic { new_threshold = position + 1 - ROOM; has_threshold = true }
            has_writer_flag = true;
#ifndef NO_FENCE_WRITER
            WRITERS_FENCE;
#endif
            if
            :: head != seen_head /* moved meanwhile */
            :: else ->
                atomic { writer_blocked = (writer_seq == seen_seq) } /* futex: compares and sleeps at once */
                !writer_blocked
            fi;
            goto room
        fi;
        /* publish */
        atomic {
            !has_data[position % ROOM] -> new_data[position % ROOM] = position + 1;
            has_data[position % ROOM] = true
        }
        atomic { new_tail = position + 1; has_tail = true; position++ }
#ifndef NO_FENCE_PUBLISH
        WRITERS_FENCE;
#endif
        if
        :: reader_sleeps_flag || reader_armed_flag ->
            /* acquire and release: behind all that was stored before */
            atomic {
                WRITERS_FENCE;
                sleeps = reader_sleeps_flag;
                armed = reader_armed_flag;
                reader_sleeps_flag = false;
                reader_armed_flag = false
            }
            if
            :: sleeps -> reader_seq++; reader_blocked = false
            :: else
            fi;
            if
            :: armed -> byte_in_socket = true
            :: else
            fi
        :: else
        fi
    od
}

inline wake_writer()
{
    atomic { READERS_FENCE; sleeping = writer_sleeps_flag; writer_sleeps_flag = false }
    if
    :: sleeping -> writer_seq++; writer_blocked = false
    :: else
    fi
}

active proctype reader()
{
    byte position = 0, seen_tail, seen_seq, seen_threshold;
    bool sleeping, owes_wake;

    do
    :: position == MESSAGES -> break
    :: else ->
        seen_seq = reader_seq; /* under the lock, before it looks */
        seen_tail = tail;
        if
        :: seen_tail > position ->
            assert(data[position % ROOM] == position + 1);
            /* commit */
            atomic { new_head = position + 1; has_head = true; position++ }
#ifndef NO_FENCE_COMMIT
            READERS_FENCE;
#endif
            /* Two loads behind the fence, in any order. */
            if
            :: sleeping = writer_sleeps_flag; seen_threshold = threshold
            :: seen_threshold = threshold; sleeping = writer_sleeps_flag
            fi;
            if
            :: sleeping && position >= seen_threshold ->
                if
                :: seen_tail > position -> owes_wake = true /* an event loop's reader may tell it when it pauses */
                :: wake_writer()
                fi
            :: else
            fi
        :: else ->
            if
            :: owes_wake -> owes_wake = false; wake_writer() /* np_rx_pause */
            :: else
            fi;
            if
            :: has_reader_flag = true; /* a thread: sleeps on the word */
#ifndef NO_FENCE_READER
                READERS_FENCE;
#endif
                if
                :: tail != seen_tail
                :: else ->
                    atomic { reader_blocked = (reader_seq == seen_seq) }
                    !reader_blocked
                fi
            :: has_armed_flag = true; /* an event loop, or the native thread: the socket */
#ifndef NO_FENCE_READER
                READERS_FENCE;
#endif
                if
                :: tail != seen_tail
                :: else ->
                    byte_in_socket -> byte_in_socket = false
                fi
            fi
        fi
    od
}
