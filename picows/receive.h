#ifndef PICOWS_RECEIVE_H
#define PICOWS_RECEIVE_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

/* recv(); with kernel_time_ns, also when the kernel received the last of the bytes that are returned, 0 if it cannot
   tell. The number of bytes, or -errno. */
static inline ssize_t picows_receive(int fd, void* data, size_t size, int flags, int64_t* kernel_time_ns)
{
    ssize_t received;
#ifdef SO_TIMESTAMPNS
    if (kernel_time_ns != NULL) {
        struct iovec part = {data, size};
        union { char bytes[CMSG_SPACE(sizeof(struct timespec))]; struct cmsghdr aligned; } control;
        struct msghdr message;
        struct cmsghdr* header;
        memset(&message, 0, sizeof(message));
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        received = recvmsg(fd, &message, flags);
        if (received > 0) {
            *kernel_time_ns = 0;
            for (header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header))
                if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SO_TIMESTAMPNS) {
                    struct timespec time;
                    memcpy(&time, CMSG_DATA(header), sizeof(time));
                    *kernel_time_ns = (int64_t) time.tv_sec * 1000000000 + time.tv_nsec;
                }
        }
        return received < 0 ? -errno : received;
    }
#endif
    received = recv(fd, data, size, flags);
    return received < 0 ? -errno : received;
}

/* 0, or -errno; -ENOTSUP where the system has no such times. */
static inline int picows_ask_for_kernel_time(int fd)
{
#ifdef SO_TIMESTAMPNS
    int on = 1;
    return setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) < 0 ? -errno : 0;
#else
    return -ENOTSUP;
#endif
}

#endif
