/* A client in the flow of Microsoft's article "Named Pipe Client": open, wait while it is busy, switch to message-read
 * mode, write, read until the message is complete. client.exe NAME MESSAGE prints the reply; the status is 0. */

#include <windows.h>

#include <stdio.h>
#include <string.h>

static int fail(const char *what)
{
    printf("%s failed, GLE=%lu\n", what, GetLastError());
    return 1;
}

int main(int argc, char **argv)
{
    HANDLE pipe;
    DWORD mode = PIPE_READMODE_MESSAGE, count;
    char piece[512];
    BOOL complete;

    if (argc != 3)
        return 2;
    for (;;) {
        pipe = CreateFileA(argv[1], GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, 0, NULL);
        if (pipe != INVALID_HANDLE_VALUE)
            break;
        if (GetLastError() != ERROR_PIPE_BUSY)
            return fail("CreateFile");
        if (!WaitNamedPipeA(argv[1], 20000))
            return fail("WaitNamedPipe");
    }
    if (!SetNamedPipeHandleState(pipe, &mode, NULL, NULL))
        return fail("SetNamedPipeHandleState");
    if (!WriteFile(pipe, argv[2], (DWORD)strlen(argv[2]), &count, NULL))
        return fail("WriteFile");
    printf("sent %lu\n", count);
    do {
        complete = ReadFile(pipe, piece, sizeof piece, &count, NULL);
        if (!complete && GetLastError() != ERROR_MORE_DATA)
            return fail("ReadFile");
        printf("received %lu %s: %.*s\n", count, complete ? "whole" : "part", (int)count, piece);
    } while (!complete);
    CloseHandle(pipe);
    return 0;
}
