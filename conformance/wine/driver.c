/*
 * Does with the Win32 functions what the conformance program says, line by line.
 *
 * Each request is one line, each answer too. Ends and operations have numbers. Bytes and paths
 * (as UTF-8) are hexadecimal digits behind an `x`. An operation that can wait is begun, and then
 * asked for; `pending` says that it still goes on.
 */
#define _WIN32_WINNT 0x0600
#include <windows.h>

#include <fcntl.h>
#include <io.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENDS = 64, OPERATIONS = 512, LINE = 4 << 20 };

enum kind { NONE, CONNECT, WRITE, READ, TRANSACT, FLUSH, WAIT, CALL };

struct end {
	HANDLE handle;
	BOOL synchronous; /* It came of CreatePipe. */
};

struct operation {
	enum kind kind;
	struct end end;
	OVERLAPPED overlapped;
	HANDLE thread; /* Of what cannot be overlapped. */
	WCHAR path[1024];
	BYTE *request;
	DWORD request_size;
	BYTE *reply;
	DWORD reply_size;
	DWORD timeout;
	BOOL finished;
	DWORD error;
	DWORD count;
};

static struct end ends[ENDS];
static struct operation operations[OPERATIONS];
static char line[LINE];

static char *word(void)
{
	char *found = strtok(NULL, " \r\n");

	return found ? found : "";
}

static DWORD number(void)
{
	return strtoul(word(), NULL, 0);
}

static struct end *end(void)
{
	return &ends[number() % ENDS];
}

static int digit(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* The bytes of the next word, with room for one more. */
static BYTE *bytes(DWORD *size)
{
	const char *text = word() + 1;
	DWORD len = (DWORD)strlen(text) / 2;
	BYTE *data = malloc(len + 1);

	for (DWORD i = 0; i < len; i++)
		data[i] = (BYTE)(digit(text[2 * i]) * 16 + digit(text[2 * i + 1]));
	data[len] = 0;
	*size = len;
	return data;
}

static void path(WCHAR *to)
{
	DWORD size;
	BYTE *text = bytes(&size);
	int len = MultiByteToWideChar(CP_UTF8, 0, (char *)text, (int)size, to, 1023);

	to[len] = 0;
	free(text);
}

static void say_bytes(const BYTE *data, DWORD size)
{
	for (DWORD i = 0; i < size; i++)
		printf("%02x", data[i]);
}

static void say_result(BOOL ok)
{
	if (ok)
		printf("done\n");
	else
		printf("failed %lu\n", GetLastError());
}

/* Runs in a thread of its own: what waits without an OVERLAPPED. */
static DWORD WINAPI perform(void *argument)
{
	struct operation *op = argument;
	HANDLE handle = op->end.handle;
	BOOL ok = FALSE;

	switch (op->kind) {
	case WRITE:
		ok = WriteFile(handle, op->request, op->request_size, &op->count, NULL);
		break;
	case READ:
		ok = ReadFile(handle, op->reply, op->reply_size, &op->count, NULL);
		break;
	case TRANSACT:
		ok = TransactNamedPipe(handle, op->request, op->request_size, op->reply,
				       op->reply_size, &op->count, NULL);
		break;
	case FLUSH:
		ok = FlushFileBuffers(handle);
		break;
	case WAIT:
		ok = WaitNamedPipeW(op->path, op->timeout);
		break;
	case CALL:
		ok = CallNamedPipeW(op->path, op->request, op->request_size, op->reply,
				    op->reply_size, &op->count, op->timeout);
		break;
	case CONNECT:
		ok = ConnectNamedPipe(handle, NULL);
		break;
	case NONE:
		break;
	}
	op->error = ok ? 0 : GetLastError();
	return 0;
}

static void begin(struct operation *op)
{
	HANDLE handle = op->end.handle;
	BOOL ok = FALSE;

	if (op->end.synchronous || op->kind >= FLUSH) {
		op->thread = CreateThread(NULL, 0, perform, op, 0, NULL);
		return;
	}
	op->overlapped.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
	switch (op->kind) {
	case CONNECT:
		ok = ConnectNamedPipe(handle, &op->overlapped);
		break;
	case WRITE:
		ok = WriteFile(handle, op->request, op->request_size, NULL, &op->overlapped);
		break;
	case READ:
		ok = ReadFile(handle, op->reply, op->reply_size, NULL, &op->overlapped);
		break;
	default:
		ok = TransactNamedPipe(handle, op->request, op->request_size, op->reply,
				       op->reply_size, NULL, &op->overlapped);
		break;
	}
	op->error = ok ? 0 : GetLastError();
	op->finished = !ok && op->error != ERROR_IO_PENDING && op->error != ERROR_MORE_DATA;
}

/* Whether the operation has finished when the time is up. */
static BOOL wait_for(struct operation *op, DWORD milliseconds)
{
	HANDLE object = op->thread ? op->thread : op->overlapped.hEvent;

	if (op->finished)
		return TRUE;
	if (WaitForSingleObject(object, milliseconds) != WAIT_OBJECT_0)
		return FALSE;
	if (!op->thread) {
		BOOL ok = GetOverlappedResult(op->end.handle, &op->overlapped, &op->count, FALSE);

		op->error = ok ? 0 : GetLastError();
	}
	op->finished = TRUE;
	return TRUE;
}

static void say_outcome(struct operation *op, DWORD milliseconds)
{
	if (!wait_for(op, milliseconds)) {
		printf("pending\n");
		return;
	}
	if (op->error && op->error != ERROR_MORE_DATA) {
		printf("failed %lu\n", op->error);
		return;
	}
	switch (op->kind) {
	case WRITE:
		printf("wrote %lu\n", op->count);
		break;
	case READ:
	case TRANSACT:
	case CALL:
		printf(op->error ? "part " : "whole ");
		say_bytes(op->reply, op->count);
		printf("\n");
		break;
	default:
		printf("done\n");
		break;
	}
}

static BOOL cancel(struct operation *op)
{
	if (wait_for(op, 0)) {
		SetLastError(ERROR_NOT_FOUND);
		return FALSE;
	}
	if (op->thread)
		return CancelSynchronousIo(op->thread);
	return CancelIoEx(op->end.handle, &op->overlapped);
}

/* Closes all ends and forgets all operations; one that does not end keeps its memory. */
static void reset(void)
{
	for (int i = 0; i < OPERATIONS; i++)
		if (operations[i].kind != NONE)
			cancel(&operations[i]);
	for (int i = 0; i < ENDS; i++) {
		if (ends[i].handle)
			DisconnectNamedPipe(ends[i].handle);
		if (ends[i].handle)
			CloseHandle(ends[i].handle);
		ends[i].handle = NULL;
	}
	for (int i = 0; i < OPERATIONS; i++) {
		struct operation *op = &operations[i];

		if (op->kind == NONE)
			continue;
		if (!wait_for(op, 1000)) {
			/* Its thread or the system may still use the memory: begin anew. */
			fprintf(stderr, "an operation does not end\n");
			exit(3);
		}
		if (op->thread)
			CloseHandle(op->thread);
		if (op->overlapped.hEvent)
			CloseHandle(op->overlapped.hEvent);
		free(op->request);
		free(op->reply);
		memset(op, 0, sizeof *op);
	}
	printf("done\n");
}

static void begin_operation(const char *verb, struct operation *op)
{
	static const char *const names[] = {"",      "connect", "write", "read",
					    "transact", "flush",   "wait",  "call"};

	memset(op, 0, sizeof *op);
	for (int kind = CONNECT; kind <= CALL; kind++)
		if (!strcmp(verb, names[kind]))
			op->kind = (enum kind)kind;
	if (op->kind == WAIT || op->kind == CALL)
		path(op->path);
	else
		op->end = *end();
	if (op->kind == WRITE || op->kind == TRANSACT || op->kind == CALL)
		op->request = bytes(&op->request_size);
	if (op->kind == READ || op->kind == TRANSACT || op->kind == CALL) {
		op->reply_size = number();
		op->reply = malloc(op->reply_size + 1);
	}
	if (op->kind == WAIT || op->kind == CALL)
		op->timeout = number();
	begin(op);
	printf("begun\n");
}

static void create(void)
{
	WCHAR name[1024];
	struct end *made = end();
	HANDLE handle;

	path(name);
	DWORD open_mode = number(), pipe_mode = number(), max = number();
	DWORD out = number(), in = number(), timeout = number();
	handle = CreateNamedPipeW(name, open_mode, pipe_mode, max, out, in, timeout, NULL);
	if (handle != INVALID_HANDLE_VALUE)
		*made = (struct end){handle, FALSE};
	say_result(handle != INVALID_HANDLE_VALUE);
}

static void create_pipe(void)
{
	struct end *reader = end(), *writer = end();
	BOOL ok = CreatePipe(&reader->handle, &writer->handle, NULL, number());

	reader->synchronous = writer->synchronous = TRUE;
	say_result(ok);
}

static void open_pipe(void)
{
	WCHAR name[1024];
	struct end *made = end();
	HANDLE handle;

	path(name);
	handle = CreateFileW(name, number(), 0, NULL, OPEN_EXISTING, FILE_FLAG_OVERLAPPED, NULL);
	if (handle != INVALID_HANDLE_VALUE)
		*made = (struct end){handle, FALSE};
	say_result(handle != INVALID_HANDLE_VALUE);
}

static void duplicate(void)
{
	struct end *made = end(), *of = end();
	HANDLE self = GetCurrentProcess();
	BOOL ok = DuplicateHandle(self, of->handle, self, &made->handle, 0, FALSE,
				  DUPLICATE_SAME_ACCESS);

	made->synchronous = of->synchronous;
	say_result(ok);
}

static void peek(void)
{
	HANDLE handle = end()->handle;
	DWORD size = number(), count = 0, available = 0, left = 0;
	BYTE *data = malloc(size + 1);

	if (PeekNamedPipe(handle, data, size, &count, &available, &left)) {
		printf("told ");
		say_bytes(data, count);
		printf(" avail=%lu left=%lu\n", available, left);
	} else {
		say_result(FALSE);
	}
	free(data);
}

static void info(void)
{
	HANDLE handle = end()->handle;
	DWORD flags, out, in, max, state, instances;

	if (!GetNamedPipeInfo(handle, &flags, &out, &in, &max) ||
	    !GetNamedPipeHandleStateW(handle, &state, &instances, NULL, NULL, NULL, 0)) {
		say_result(FALSE);
		return;
	}
	printf("told none end=%s type=%s in=%lu out=%lu max=%lu read=%s wait=%s instances=%lu\n",
	       flags & PIPE_SERVER_END ? "server" : "client",
	       flags & PIPE_TYPE_MESSAGE ? "message" : "byte", in, out, max,
	       state & PIPE_READMODE_MESSAGE ? "message" : "byte",
	       state & PIPE_NOWAIT ? "no" : "yes", instances);
}

static void process(const char *verb)
{
	HANDLE handle = end()->handle;
	ULONG id;
	BOOL ok = !strcmp(verb, "client-process") ? GetNamedPipeClientProcessId(handle, &id)
						  : GetNamedPipeServerProcessId(handle, &id);

	if (!ok)
		say_result(FALSE);
	else if (id == GetCurrentProcessId())
		printf("process 1\n");
	else
		printf("trouble process %lu is not this one\n", id);
}

static void answer(void)
{
	const char *verb = strtok(line, " \r\n");

	if (!verb)
		verb = "";
	if (!strcmp(verb, "reset")) {
		reset();
	} else if (!strcmp(verb, "create")) {
		create();
	} else if (!strcmp(verb, "create-pipe")) {
		create_pipe();
	} else if (!strcmp(verb, "open")) {
		open_pipe();
	} else if (!strcmp(verb, "clone")) {
		duplicate();
	} else if (!strcmp(verb, "begin")) {
		struct operation *op = &operations[number() % OPERATIONS];

		begin_operation(word(), op);
	} else if (!strcmp(verb, "ask")) {
		struct operation *op = &operations[number() % OPERATIONS];

		say_outcome(op, number());
	} else if (!strcmp(verb, "cancel")) {
		say_result(cancel(&operations[number() % OPERATIONS]));
	} else if (!strcmp(verb, "cancel-io")) {
		say_result(CancelIoEx(end()->handle, NULL));
	} else if (!strcmp(verb, "disconnect")) {
		say_result(DisconnectNamedPipe(end()->handle));
	} else if (!strcmp(verb, "close")) {
		struct end *closed = end();

		say_result(CloseHandle(closed->handle));
		closed->handle = NULL;
	} else if (!strcmp(verb, "peek")) {
		peek();
	} else if (!strcmp(verb, "set-mode")) {
		HANDLE handle = end()->handle;
		DWORD mode = number();

		say_result(SetNamedPipeHandleState(handle, &mode, NULL, NULL));
	} else if (!strcmp(verb, "info")) {
		info();
	} else if (!strcmp(verb, "client-process") || !strcmp(verb, "server-process")) {
		process(verb);
	} else {
		printf("trouble nobody knows %s\n", verb);
	}
}

int main(void)
{
	_setmode(_fileno(stdin), _O_BINARY);
	_setmode(_fileno(stdout), _O_BINARY);
	while (fgets(line, LINE, stdin)) {
		answer();
		fflush(stdout);
	}
	return 0;
}
