#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *greeting(void);

/* Greets, tells who runs it and where, and ends with the status it is asked for. */
int main(int argc, char **argv) {
    char directory[4096];
    if (argc > 1 && strcmp(argv[1], "--check") == 0) return access("/srv/app/settings.conf", R_OK);
    if (argc > 2 && strcmp(argv[1], "--exit") == 0) return atoi(argv[2]);
    if (!getcwd(directory, sizeof directory)) return 1;
    printf("%s %s\n", greeting(), argc > 1 ? argv[1] : "nobody");
    printf("uid=%d gid=%d cwd=%s home=%s\n", getuid(), getgid(), directory, getenv("HOME"));
    return 0;
}
