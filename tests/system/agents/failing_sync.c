/* fsync and fdatasync that fail with EIO as soon as a file named by PAXOSKV_TEST_SYNC_FAILS exists. */
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(void)
{
    const char *path = getenv("PAXOSKV_TEST_SYNC_FAILS");
    return path != NULL && access(path, F_OK) == 0;
}

static int sync_by(long number, int fd)
{
    if (fails()) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(number, fd);
}

int fsync(int fd) { return sync_by(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_by(SYS_fdatasync, fd); }
