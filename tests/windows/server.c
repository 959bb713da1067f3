/* A server in the flow of Microsoft's article "Multithreaded Pipe Server", for one client: create, connect, answer each
 * request with its bytes in reverse, flush, disconnect. server.exe NAME prints "listening", and what it has done. */

#include <windows.h>

#include <stdio.h>

#define BUFSIZE 4096

static int fail(const char *what)
{
    printf("%s failed, GLE=%lu\n", what, GetLastError());
    return 1;
}

int main(int argc, char **argv)
{
    HANDLE pipe;
    char request[BUFSIZE], reply[BUFSIZE];
    DWORD count, written, i, requests = 0;

    if (argc != 2)
        return 2;
    pipe = CreateNamedPipeA(argv[1], PIPE_ACCESS_DUPLEX, PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE | PIPE_WAIT,
                            PIPE_UNLIMITED_INSTANCES, BUFSIZE, BUFSIZE, 0, NULL);
    if (pipe == INVALID_HANDLE_VALUE)
        return fail("CreateNamedPipe");
    printf("listening\n");
    fflush(stdout);
    if (!ConnectNamedPipe(pipe, NULL) && GetLastError() != ERROR_PIPE_CONNECTED)
        return fail("ConnectNamedPipe");
    while (ReadFile(pipe, request, sizeof request, &count, NULL)) {
        for (i = 0; i < count; i++)
            reply[i] = request[count - 1 - i];
        if (!WriteFile(pipe, reply, count, &written, NULL) || written != count)
            return fail("WriteFile");
        requests++;
    }
    if (GetLastError() != ERROR_BROKEN_PIPE)
        return fail("ReadFile");
    FlushFileBuffers(pipe);
    DisconnectNamedPipe(pipe);
    CloseHandle(pipe);
    printf("answered %lu\n", requests);
    return 0;
}
