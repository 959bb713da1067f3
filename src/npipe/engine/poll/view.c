#include "poll/view.h"

#include <string.h>

#include "base/codes.h"
#include "handle/handle.h"
#include "handle/step.h"
#include "overlapped/drive.h"
#include "ring/back.h"
#include "ring/link.h"
#include "ring/op.h"
#include "ring/rx.h"

bool np_poll_view(struct np_handle *handle, struct np_poll_read *read, struct np_view *view, uint32_t size)
{
    struct np_link *link = read->link;
    memset(view, 0, sizeof *view);
    view->size = size;
    view->recv.link = link;
    view->recv.message = read->message;
    view->recv.pended = true;
    if (!np_view_in_place(handle, view, true)) {
        view->recv.link = NULL;
        return false;
    }
    view->recv.op.size = UINT32_MAX;
    view->recv.op.pended = true;
    pthread_mutex_lock(&handle->rx_lock);
    np_rx_leave(link, &read->op);
    np_queue_prepend(&link->rx.first, &link->rx.last, &view->recv.op); /* which has the turn */
    read->link = NULL; /* whose reference is the view's now */
    pthread_mutex_unlock(&handle->rx_lock);
    return true;
}

uint32_t np_view_put_back(struct np_handle *handle, const struct np_view *view, const void *data, uint32_t size)
{
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    uint32_t code = NP_OK;
    if (!link)
        code = np_code_without_link(handle);
    else if (!(view->rest ? np_back_put_rest : np_back_put)(&link->rx, data, size))
        code = np_link_violated(link); /* no memory to keep it: the pipe cannot go on */
    np_unlock_moved(handle, &handle->rx_lock);
    return code;
}
