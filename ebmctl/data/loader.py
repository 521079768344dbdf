def batches(dataset, order, start_step, workers=0):
    step=start_step
    while True:
        yield dataset.__getitems__(order.batch(step)); step+=1
