/* Says hello, and shows what the sandbox made of this process. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct utsname system;
    const char *greeting = getenv("GREETING");

    if (uname(&system) != 0)
        return 1;
    printf("%s, %s\n", greeting ? greeting : "hi", argc > 1 ? argv[1] : "you");
    printf("process %d of user %d on %s\n", (int)getpid(), (int)getuid(), system.machine);
    return 0;
}
